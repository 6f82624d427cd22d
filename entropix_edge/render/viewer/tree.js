// A conversation and all that was tried in it: questions and replies, each a child of the turn that it follows.

class Tree {
  /**
   * @param page its `goTo` and `remove` are called with the node that is clicked.
   * @param facts `{id, when, title}` of one that was kept.
   */
  constructor(page, facts = null) {
    this.page = page;
    this.id = facts ? facts.id : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    this.title = facts ? facts.title : null;
    this.when = facts ? facts.when : Date.now();
    this.nodes = [];
    this.current = null;
    this.before = []; // what was shown before, for undo
    this.element = el("div", { class: "listing tree" });
    this.draw();
  }

  /** What is kept of it beside its turns. */
  facts() {
    return { id: this.id, title: this.title, when: this.when, shown: this.current ? this.current.id : null };
  }

  /** Add a turn and show it. `told` says how it came about. */
  add(node) {
    const id = Math.max(Date.now(), (this.nodes.at(-1)?.id ?? 0) + 1); // another tab may add to the same conversation
    this.nodes.push({ ...node, id });
    this.title ??= node.told;
    this.when = Date.now();
    return this.go(this.nodes.at(-1));
  }

  /** Take up turns that were kept, and show the one that was shown. */
  fill(turns, shown) {
    const known = new Map(turns.map((turn) => [turn.id, turn]));
    for (const turn of turns) turn.parent = known.get(turn.parent) ?? null;
    this.nodes = turns;
    this.current = known.get(shown) ?? turns.at(-1) ?? null;
    this.draw();
  }

  /** Take a turn away, with all that follows it; these. */
  remove(node) {
    const gone = new Set([node]);
    for (const each of this.nodes) if (gone.has(each.parent)) gone.add(each); // children come after their parents
    this.nodes = this.nodes.filter((each) => !gone.has(each));
    this.before = this.before.filter((each) => !gone.has(each));
    if (gone.has(this.current)) this.current = node.parent ?? this.nodes.findLast((each) => !each.parent) ?? null;
    this.draw();
    return [...gone];
  }

  go(node) {
    if (this.current !== node) this.before.push(this.current);
    this.current = node;
    this.draw();
    return node;
  }

  undo() {
    if (!this.before.length) return;
    this.current = this.before.pop();
    this.draw();
  }

  /** The turns from the first to the one that is shown. */
  path() {
    const found = [];
    for (let node = this.current; node; node = node.parent) found.unshift(node);
    return found;
  }

  draw = throttled(() => {
    clear(this.element, this.nodes.length ? this.children(null) : el("p", { class: "hint" }, "Every reply is kept here; nothing is lost by going on otherwise."));
  });

  children(parent) {
    const own = this.nodes.filter((node) => node.parent === parent);
    if (!own.length) return null;
    const rows = own.map((node) => {
      const { reply } = node;
      const mean = reply.figures().mean;
      const label = [
        el("span", { class: "what" }, node.told),
        el("span", { class: "told" }, `${plural(reply.tokens.length, "token")}${mean === null ? "" : `, ${fixed(mean)} bits`}`),
        el("span", { class: "text" }, visible(reply.text.trim()).slice(0, 60)),
      ];
      const current = node === this.current ? "true" : null;
      return el(
        "li",
        {},
        el("button", { type: "button", "aria-current": current, onclick: () => this.page.goTo(node) }, label),
        el("button", { type: "button", class: "remove", "aria-label": `Delete ${node.told} and what follows it`, title: "Delete this, and what follows it", onclick: () => this.page.remove(node) }, "×"),
        this.children(node),
      );
    });
    return el("ul", {}, rows);
  }
}
