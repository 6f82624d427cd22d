// Conversations that are kept in this browser, in its own database; nothing of them leaves it.

const DATABASE = "entropix-edge";
const SHOWN = "entropix-edge shown"; // the conversation of this tab, so that a reload comes back to it

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

class Store {
  /** @param fault called with an Error where the browser keeps nothing. */
  constructor(fault) {
    this.fault = fault;
    this.opening = this.open().catch((error) => this.lost(error));
  }

  async open() {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("turns", { keyPath: ["conversation", "id"] });
    };
    return settled(request);
  }

  lost(error) {
    this.fault(new Error(`this browser does not keep conversations: ${error.message || error.name}`));
    return null;
  }

  /** Run requests on both stores; null where nothing is kept. */
  async within(mode, call) {
    const database = await this.opening;
    if (!database) return null;
    try {
      const work = database.transaction(["conversations", "turns"], mode);
      const done = new Promise((resolve, reject) => {
        work.oncomplete = resolve;
        work.onabort = () => reject(work.error || new Error("it was given up"));
      });
      const result = call(work.objectStore("conversations"), work.objectStore("turns"));
      const found = result ? await settled(result) : null;
      await done;
      return found;
    } catch (error) {
      return this.lost(error);
    }
  }

  /** What is kept, the newest first: `{id, title, when, shown}`. */
  async list() {
    const found = (await this.within("readonly", (conversations) => conversations.getAll())) || [];
    return found.sort((one, other) => other.when - one.when);
  }

  /** A conversation's turns, the oldest first; their replies as `Reply.plain` gave them. */
  async turns(id) {
    return (await this.within("readonly", (_, turns) => turns.getAll(IDBKeyRange.bound([id], [id, []])))) || [];
  }

  /** Keep a turn, and that its conversation stands there. */
  save(tree, node) {
    const { parent, reply, ...facts } = node;
    const turn = { ...facts, conversation: tree.id, parent: parent ? parent.id : null, reply: reply.plain() };
    return this.within("readwrite", (conversations, turns) => {
      conversations.put(tree.facts());
      turns.put(turn);
    });
  }

  /** Keep which turn of a conversation is shown. */
  point(tree) {
    return this.within("readwrite", (conversations) => void conversations.put(tree.facts()));
  }

  /** Forget turns of a conversation; all of it where none is named. */
  remove(id, nodes = null) {
    return this.within("readwrite", (conversations, turns) => {
      if (nodes) nodes.forEach((node) => turns.delete([id, node.id]));
      else {
        conversations.delete(id);
        turns.delete(IDBKeyRange.bound([id], [id, []]));
      }
    });
  }

  clear() {
    return this.within("readwrite", (conversations, turns) => {
      conversations.clear();
      turns.clear();
    });
  }
}

/** The list of conversations: one is opened by a click. */
class Conversations {
  /** @param page its `openConversation`, `forget` and `forgetAll` are called. */
  constructor(page, store) {
    this.page = page;
    this.store = store;
    this.element = el("div", { class: "listing conversations" });
  }

  async draw() {
    const kept = await this.store.list();
    const rows = kept.map(({ id, title, when }) => {
      const current = id === this.page.tree.id ? "true" : null;
      const label = [el("span", { class: "what" }, title), el("span", { class: "told" }, new Date(when).toLocaleString())];
      return el(
        "li",
        {},
        el("button", { type: "button", "aria-current": current, onclick: () => this.page.openConversation(id) }, label),
        el("button", { type: "button", class: "remove", "aria-label": `Delete the conversation ${title}`, title: "Delete", onclick: () => this.page.forget(id) }, "×"),
      );
    });
    const all = el("button", { type: "button", onclick: () => this.page.forgetAll() }, "Delete all");
    clear(this.element, el("p", { class: "hint" }, kept.length ? "Kept in this browser, and nowhere else." : "What you ask is kept in this browser, and nowhere else."), kept.length ? [el("ul", {}, rows), all] : null);
  }
}
