// The page that a server shows: a conversation with its model.

const FULL = "context_length_exceeded";
const WRITTEN = "✎ written over";
const GAP = 8; // pixels
const NEAR = 60; // pixels: who is so near the end is reading there

class Page {
  constructor(root) {
    this.root = root;
    this.status = el("p", { role: "status", class: "status" }, "Connecting …");
    this.alert = el("div", { role: "alert", class: "alert" });
    this.running = null;
    this.texts = new Map();
    clear(root, el("header", {}, el("h1", {}, "entropix-edge"), this.status), this.alert);
    this.connect();
  }

  // --- the server ------------------------------------------------------------------------------------

  async connect() {
    try {
      this.props = await api.json("props");
    } catch (error) {
      if (error.status === 401) this.askForKey(error.message);
      else this.wait(error);
      return;
    }
    clear(this.alert);
    this.open();
  }

  wait(error) {
    clear(this.status, error.status === 503 ? "The model is being loaded …" : `Waiting: ${error.message}`);
    setTimeout(() => this.connect(), 1000);
  }

  askForKey(message) {
    const input = el("input", { type: "password", id: "key", autocomplete: "off" });
    const submit = (event) => {
      event.preventDefault();
      api.key = input.value.trim();
      this.connect();
    };
    clear(this.status, "");
    clear(
      this.alert,
      el("form", { class: "key", onsubmit: submit }, el("p", {}, api.key ? sentence(message) : "This server asks for a key. It is kept until this tab is closed."), el("label", { for: "key" }, "API key "), input, el("button", { type: "submit" }, "Use it")),
    );
    input.focus();
  }

  // --- what is on the page ---------------------------------------------------------------------------

  async open() {
    const { props } = this;
    this.viewer = new Viewer(props.strategy, this);
    this.settings = new Settings(props);
    this.composer = new Composer(this);
    this.store = new Store((error) => this.keepsNothing(error));
    this.conversations = new Conversations(this, this.store);
    this.tree = new Tree(this);
    this.tried = el("div", {}, this.tree.element);
    this.turns = el("div", { class: "turns" });
    this.file = el("input", { type: "file", accept: ".jsonl,.json,.txt", class: "visually-hidden", tabindex: -1, "aria-hidden": "true", onchange: () => this.importFile() });
    clear(this.status, el("b", {}, props.model_alias), ` ${props.n_ctx} tokens of context · ${props.build_info}`);
    clear(this.root, this.header(), this.alert, this.viewer.said, this.main(), this.viewer.tip);
    this.viewer.show(null);
    this.show();
    this.composer.question.focus();
    addEventListener("beforeunload", (event) => {
      if (this.running || (this.unkept && this.tree.nodes.length)) event.preventDefault();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stop();
    });
    await this.comeBack();
  }

  header() {
    this.undo = el("button", { type: "button", disabled: true, onclick: () => this.takeBack() }, "Undo");
    return el(
      "header",
      {},
      el("h1", {}, "entropix-edge"),
      this.status,
      el("div", { class: "buttons" }, this.undo, el("button", { type: "button", onclick: () => this.restart() }, "New"), el("button", { type: "button", onclick: () => this.file.click() }, "Import"), this.file),
    );
  }

  main() {
    return el(
      "main",
      {},
      el("div", { class: "talk" }, this.viewer.legend(), this.turns, this.composer.element, this.viewer.timelinePanel()),
      el(
        "aside",
        { "aria-label": "Settings, and what the model knew" },
        this.viewer.section("Settings", this.settings.element, { open: false }),
        this.viewer.section("Conversations", this.conversations.element, { open: false }),
        this.viewer.panels(this.viewer.section("Tried", this.tried)),
      ),
    );
  }

  /** Draw the turns that lead to the current one. */
  show() {
    const path = this.tree.path();
    this.viewer.keepPanes(path.map((node) => node.reply));
    clear(this.turns, path.length ? path.map((node) => turnOf(this, node, node === this.tree.current)) : welcome());
    this.viewer.show(path.length ? path.at(-1).reply : null);
    this.undo.disabled = this.running !== null || !this.tree.before.length;
    this.composer.showRunning(this.running !== null);
  }

  tell(error) {
    clear(this.alert, el("p", {}, sentence(error.message)), el("button", { type: "button", "aria-label": "Close the message", onclick: () => clear(this.alert) }, "×"));
    if (error.status === 401) this.askForKey(error.message);
  }

  // --- what the user does ----------------------------------------------------------------------------

  /** Ask, or go on from a text. False where that cannot be begun. */
  ask({ question, kind, edited }) {
    const current = this.tree.current && this.tree.current.kind === "chat" ? this.tree.current : null;
    const parent = edited ? edited.parent : kind === "text" ? null : current;
    return this.generate({ parent, kind, question, told: quoted(question.trim().slice(0, 40)), system: (edited ?? parent)?.system });
  }

  regenerate(node) {
    this.generate({ parent: node.parent, kind: node.kind, question: node.question, told: "again", system: node.system });
  }

  /** Go on from a place in a reply with exact tokens. */
  goOn(reply, place, ids, text, { whole = false, told = null } = {}) {
    const node = this.tree.nodes.find((each) => each.reply === reply);
    if (this.running || !node) return;
    const next = ids.length ? `${whole ? "candidate" : `at token ${place}`}: ${quoted(text.slice(0, 24))}` : `on from token ${place}`;
    this.generate({ parent: node.parent, kind: node.kind, question: node.question, told: told ?? `↳ ${next}`, system: node.system, from: reply, place, ids, text });
  }

  /** Go on from a place with words of the user's own. */
  async goOnWith(reply, place, words) {
    try {
      const { tokens } = await api.json("tokenize", { content: words, parse_special: false });
      this.goOn(reply, place, tokens, words);
    } catch (error) {
      this.tell(error);
    }
  }

  /** Go on from a reply as the user wrote it over; or keep it so, and generate nothing. */
  async rewrite(node, text, { keep = false } = {}) {
    const { reply } = node;
    const { place, left } = keptFor(reply, text);
    try {
      const tokens = left ? (await api.json("tokenize", { content: left, parse_special: false })).tokens : [];
      if (!keep) this.goOn(reply, place, tokens, left, { told: WRITTEN });
      else this.add({ ...node, told: WRITTEN, fault: null, pace: null, used: null, reply: reply.begin(place, tokens, left, reply.header) });
    } catch (error) {
      this.tell(error);
    }
  }

  /** Why a reply cannot be gone on from; null where it can. */
  whyNot(reply) {
    const node = this.tree.nodes.find((each) => each.reply === reply);
    if (!node || !node.prompted) return "The trace does not hold its prompt, so the model cannot go on from it.";
    if (reply.header.model && reply.header.model !== this.props.model_file) return `This is of another model, ${visible(String(reply.header.model))}: its tokens are not this model's.`;
    return this.running ? "A reply is being generated." : null;
  }

  takeBack() {
    this.tree.undo();
    this.store.point(this.tree);
    this.show();
  }

  goTo(node) {
    if (this.running) return;
    this.tree.go(node);
    this.store.point(this.tree);
    this.show();
  }

  restart() {
    if (this.running) return;
    this.shows(new Tree(this));
    this.composer.question.focus();
  }

  stop() {
    if (this.running) this.running.abort();
  }

  async importFile() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file) return;
    try {
      const reply = readTrace(await file.text());
      if (reply.header.model === this.props.model_file) reply.texts.forEach((text, id) => this.texts.set(id, text));
      let parent = null;
      for (const turn of turnsOf(reply, visible(file.name))) parent = this.add({ ...turn, parent });
    } catch (error) {
      this.tell(error);
    }
  }

  // --- what is kept ----------------------------------------------------------------------------------

  /** Add a turn that is whole, and show it. */
  add(turn) {
    const node = this.tree.add(turn);
    this.save(node);
    this.show();
    return node;
  }

  async save(node) {
    const { tree } = this;
    sessionStorage.setItem(SHOWN, tree.id);
    await this.store.save(tree, node);
    this.conversations.draw();
  }

  keepsNothing(error) {
    if (!this.unkept) this.tell(error);
    this.unkept = true;
  }

  /** Show a conversation in place of the one that is shown. */
  shows(tree) {
    this.tree = tree;
    clear(this.tried, tree.element);
    sessionStorage.setItem(SHOWN, tree.id);
    this.conversations.draw();
    this.show();
    this.toEnd();
  }

  /** What this tab showed before it was loaded anew. */
  async comeBack() {
    const before = sessionStorage.getItem(SHOWN);
    if (before) await this.openConversation(before);
    else await this.conversations.draw();
  }

  async openConversation(id) {
    if (this.running) return;
    const facts = (await this.store.list()).find((each) => each.id === id);
    const turns = facts ? await this.store.turns(id) : [];
    if (this.running || !turns.length) return void this.conversations.draw();
    for (const turn of turns) turn.reply = Reply.of(turn.reply, turn.reply.header.model === this.props.model_file ? this.texts : new Map());
    const tree = new Tree(this, facts);
    tree.fill(turns, facts.shown);
    this.settings.set("system", tree.current.system ?? "");
    this.shows(tree);
  }

  async remove(node) {
    if (this.running) return;
    await this.store.remove(this.tree.id, this.tree.remove(node));
    if (this.tree.nodes.length) this.store.point(this.tree);
    else await this.store.remove(this.tree.id);
    this.conversations.draw();
    this.show();
  }

  async forget(id) {
    if (this.running) return;
    await this.store.remove(id);
    if (id === this.tree.id) this.restart();
    else this.conversations.draw();
  }

  async forgetAll() {
    if (this.running || !confirm("Delete all conversations that this browser keeps?")) return;
    await this.store.clear();
    this.restart();
  }

  // --- generating ------------------------------------------------------------------------------------

  /** Begin a reply. False where a setting is wrong. */
  generate({ parent, kind, question, told, system, from = null, place = 0, ids = [], text = "" }) {
    let set;
    try {
      set = this.settings.read();
    } catch (error) {
      this.tell(error);
      return false;
    }
    set.seed ??= Math.floor(Math.random() * 2 ** 32);
    const options = this.viewer.sliders.use.checked && this.viewer.changed ? this.viewer.changed : {};
    const given = from ? promptOf(from) : kind === "text" ? { prompt: question } : { messages: messagesOf(parent, question, set.system ?? system) };
    const header = this.headerOf(set, options, given);
    const reply = from ? from.begin(place, ids, text, header) : new Reply(header, this.texts);
    const node = this.tree.add({ parent, kind, question, told, system: set.system ?? system, reply, prompted: true });
    this.save(node);
    clear(this.alert);
    this.running = new AbortController();
    this.show();
    this.toEnd();
    this.read(node, { ...given, ...requestOf(set, options, reply.ids) });
    return true;
  }

  headerOf(set, options, given) {
    const { props } = this;
    return {
      model: props.model_file,
      seed: set.seed,
      prompt_tokens: null,
      sampler: set.sampler || props.default_generation_settings.sampler,
      preset: this.settings.preset(set, options),
      attention_layers: props.attention_layers,
      ...given,
    };
  }

  async read(node, body) {
    const { reply } = node;
    const path = node.kind === "text" ? "v1/completions" : "v1/chat/completions";
    const draw = throttled(() => this.drawTokens(node));
    try {
      for await (const event of api.stream(path, body, this.running.signal)) {
        this.take(node, event);
        draw();
      }
    } catch (error) {
      if (error.name === "AbortError") reply.finish = "cancelled";
      else {
        node.fault = error.code === FULL ? `${error.message} Begin a new conversation, or go back to an earlier turn` : error.message;
        if (!reply.tokens.length || error.status === 401) this.tell(error);
      }
    }
    this.running = null;
    this.drawTokens(node, () => this.show());
    this.viewer.updatePlots();
    this.tree.draw();
    this.save(node);
  }

  take(node, event) {
    const { reply } = node;
    if (event.usage) {
      reply.header.prompt_tokens = event.usage.prompt_tokens;
      node.used = event.usage.total_tokens;
    }
    for (const choice of event.choices) {
      const extension = choice.entropix;
      if (!extension) continue;
      const before = reply.tokens.length;
      for (const record of extension.events || []) reply.push(record);
      if (extension.summary) {
        reply.summary = extension.summary;
        reply.header.extra_decoded_tokens = extension.summary.extra_decoded_tokens; // a trace has it too
      }
      this.measure(node, reply.tokens.length - before);
    }
  }

  /** The pace counts from the first token on: what came before it is the prompt. */
  measure(node, count) {
    if (!count) return;
    const now = performance.now();
    if (!node.pace) {
      node.pace = { count, seconds: 0 };
      this.first = now;
    } else {
      node.pace = { count: node.pace.count + count, seconds: (now - this.first) / 1000 };
    }
  }

  /** Draw what has come; who reads the end goes on reading there. */
  drawTokens(node, then = () => {}) {
    const follows = this.below() < NEAR;
    this.viewer.update(node.reply);
    if (this.running) clear(this.notes, el("p", {}, paceOf(node, this.props)));
    then();
    if (follows) this.toEnd();
  }

  /** How far the last turn reaches below what is seen, in pixels. */
  below() {
    const [last, turns, composer] = [this.turns.lastElementChild, this.turns, this.composer.element].map((each) => each.getBoundingClientRect());
    return Math.ceil(last.bottom - Math.min(turns.bottom, composer.top)) + GAP;
  }

  /** Scroll to the end of the last turn: the turns on a wide page, all of a narrow one. */
  toEnd() {
    for (const scroller of [this.turns, window]) scroller.scrollBy(0, Math.max(0, this.below()));
  }
}
