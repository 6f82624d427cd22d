// The page that a server shows: a conversation with its model.

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
      el("form", { class: "key", onsubmit: submit }, el("p", {}, api.key ? `${message}.` : "This server asks for a key. It is kept until this tab is closed."), el("label", { for: "key" }, "API key "), input, el("button", { type: "submit" }, "Use it")),
    );
    input.focus();
  }

  // --- what is on the page ---------------------------------------------------------------------------

  open() {
    const { props } = this;
    this.viewer = new Viewer(props.strategy, this);
    this.settings = new Settings(props);
    this.tree = new Tree((node) => this.goTo(node));
    this.turns = el("div", { class: "turns" });
    this.question = el("textarea", { id: "question", rows: 3, placeholder: "Ask something", onkeydown: (event) => this.questionKey(event) });
    this.mode = el("select", { id: "mode", onchange: () => this.showMode() }, el("option", { value: "chat" }, "chat"), el("option", { value: "text" }, "raw text"));
    this.send = el("button", { type: "submit", class: "main" }, "Ask");
    this.stopButton = el("button", { type: "button", onclick: () => this.stop(), disabled: true }, "Stop");
    this.file = el("input", { type: "file", accept: ".jsonl,.json,.txt", class: "visually-hidden", tabindex: -1, "aria-hidden": "true", onchange: () => this.importFile() });
    clear(this.status, el("b", {}, props.model_alias), ` ${props.n_ctx} tokens of context · ${props.build_info}`);
    clear(this.root, this.header(), this.alert, this.viewer.said, this.main(), this.viewer.tip);
    this.viewer.show(null);
    this.show();
    this.question.focus();
    addEventListener("beforeunload", (event) => {
      if (this.tree.nodes.length) event.preventDefault();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stop();
    });
  }

  header() {
    return el(
      "header",
      {},
      el("h1", {}, "entropix-edge"),
      this.status,
      el("div", { class: "buttons" }, this.undoButton(), el("button", { type: "button", onclick: () => this.restart() }, "New"), el("button", { type: "button", onclick: () => this.file.click() }, "Import"), this.file),
    );
  }

  undoButton() {
    this.undo = el("button", { type: "button", disabled: true, onclick: () => this.takeBack() }, "Undo");
    return this.undo;
  }

  main() {
    const composer = el(
      "form",
      { class: "composer", onsubmit: (event) => this.ask(event) },
      el("label", { for: "question", class: "visually-hidden" }, "Your question"),
      this.question,
      el("div", { class: "buttons" }, el("label", { for: "mode", class: "visually-hidden" }, "What the text is"), this.mode, this.stopButton, this.send),
    );
    const timeline = this.viewer.section("Timeline", this.viewer.timeline.element, { save: this.viewer.timeline.svg });
    return el(
      "main",
      {},
      el("div", { class: "talk" }, this.viewer.legend(), this.turns, composer, timeline),
      el(
        "aside",
        { "aria-label": "What the model knew" },
        this.viewer.panels(),
        this.viewer.section("Tried", this.tree.element),
        this.viewer.section("Settings", this.settings.element, { open: false }),
      ),
    );
  }

  showMode() {
    this.question.placeholder = this.mode.value === "chat" ? "Ask something" : "A text to go on from, as it is";
    clear(this.send, this.mode.value === "chat" ? "Ask" : "Go on");
  }

  /** Draw the turns that lead to the current one. */
  show() {
    const path = this.tree.path();
    this.viewer.keepPanes(path.map((node) => node.reply));
    clear(this.turns, path.length ? path.map((node) => this.turn(node)) : this.welcome());
    this.viewer.show(path.length ? path.at(-1).reply : null);
    this.undo.disabled = this.running !== null || !this.tree.before.length;
    this.showRunning();
  }

  welcome() {
    return el(
      "div",
      { class: "welcome" },
      el("p", {}, "Ask, and see at every word how sure the model was: sure words are plain, the others are coloured and underlined by what was done there."),
      el("p", {}, "Click a word for its numbers and what else could stand there; click one of those to go on from it. A sign with two branches marks a fork: branches that were tried and one that was kept."),
    );
  }

  turn(node) {
    const pane = this.viewer.pane(node.reply);
    const last = node === this.tree.current;
    const notes = el("div", { class: "notes" }, this.notesOf(node));
    if (last) this.notes = notes; // a node must not hold its elements: they would hold every token's
    return el(
      "article",
      { "aria-label": node.kind === "text" ? "Text" : "Question and reply" },
      node.question === null ? null : el("div", { class: node.kind === "text" ? "question raw" : "question", role: "group", "aria-label": "Question" }, node.question, this.editButton(node)),
      candidatesOf(this.viewer, node.reply),
      pane.element,
      notes,
      last ? this.buttons(node) : null,
    );
  }

  editButton(node) {
    const edit = () => {
      this.question.value = node.question;
      this.mode.value = node.kind;
      this.showMode();
      this.editing = node;
      this.question.focus();
    };
    return el("button", { type: "button", class: "edit", onclick: edit, "aria-label": "Ask this differently" }, "✎");
  }

  /** What is said below a reply. */
  notesOf(node) {
    const told = confidenceInWords(node.reply.confidence);
    const parts = [told ? el("span", {}, el("b", {}, `Confidence: ${told.value}.`), ` ${told.meaning}`) : null];
    if (node.fault) parts.push(el("span", { class: "fault" }, `The reply ended: ${node.fault}`));
    else if (node.reply.finish && node.reply.finish !== "stop") parts.push(el("span", {}, ENDINGS[node.reply.finish] ?? `Ended by ${node.reply.finish}.`));
    return parts.filter(Boolean).map((part) => el("p", {}, part));
  }

  buttons(node) {
    const { reply } = node;
    const whyNot = this.whyNot(reply);
    const idle = this.running === null;
    const button = (name, call, able = true) => el("button", { type: "button", onclick: call, disabled: !able || !idle }, name);
    return el(
      "div",
      { class: "buttons" },
      button("Regenerate", () => this.regenerate(node), node.prompted),
      button("Continue", () => this.goOn(reply, reply.tokens.length, [], ""), !whyNot && reply.finish !== "stop" && reply.tokens.length > 0),
      button("Export trace", () => saveTrace(reply), reply.tokens.length > 0),
      navigator.clipboard ? button("Copy", () => navigator.clipboard.writeText(reply.text), reply.tokens.length > 0) : null, // there on secure origins only
    );
  }

  showRunning() {
    this.stopButton.disabled = this.running === null;
    this.send.disabled = this.running !== null;
  }

  tell(error) {
    clear(this.alert, el("p", {}, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`), el("button", { type: "button", "aria-label": "Close the message", onclick: () => clear(this.alert) }, "×"));
    if (error.status === 401) this.askForKey(error.message);
  }

  // --- what the user does ----------------------------------------------------------------------------

  questionKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && this.mode.value === "chat") this.ask(event);
  }

  ask(event) {
    event.preventDefault();
    const question = this.question.value;
    if (this.running || question.trim() === "") return;
    const edited = this.editing;
    this.editing = null;
    const kind = this.mode.value;
    const parent = edited ? edited.parent : kind === "text" ? null : this.tree.current && this.tree.current.kind === "chat" ? this.tree.current : null;
    if (this.generate({ parent, kind, question, told: quoted(question.trim().slice(0, 40)), system: (edited ?? parent)?.system })) this.question.value = "";
  }

  regenerate(node) {
    this.generate({ parent: node.parent, kind: node.kind, question: node.question, told: "again", system: node.system });
  }

  /** Go on from a place in a reply with exact tokens. */
  goOn(reply, place, ids, text, { whole = false } = {}) {
    const node = this.tree.nodes.find((each) => each.reply === reply);
    if (this.running || !node) return;
    const next = ids.length ? `${whole ? "candidate" : `at token ${place}`}: ${quoted(text.slice(0, 24))}` : `on from token ${place}`;
    this.generate({ parent: node.parent, kind: node.kind, question: node.question, told: `↳ ${next}`, system: node.system, from: reply, place, ids, text });
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

  /** Why a reply cannot be gone on from; null where it can. */
  whyNot(reply) {
    const node = this.tree.nodes.find((each) => each.reply === reply);
    if (!node || !node.prompted) return "The trace does not hold its prompt, so the model cannot go on from it.";
    if (reply.header.model && reply.header.model !== this.props.model_file) return `This is of another model, ${visible(String(reply.header.model))}: its tokens are not this model's.`;
    return this.running ? "A reply is being generated." : null;
  }

  takeBack() {
    this.tree.undo();
    this.show();
  }

  goTo(node) {
    if (this.running) return;
    this.tree.go(node);
    this.show();
  }

  restart() {
    if (this.running) return;
    this.tree.go(null);
    this.show();
    this.question.focus();
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
      this.importReply(reply, file.name);
    } catch (error) {
      this.tell(error);
    }
  }

  /** A trace that this page wrote has the turns that led to it. */
  importReply(reply, name) {
    const { messages, prompt } = reply.header;
    if (typeof prompt === "string") {
      this.tree.add({ parent: null, kind: "text", question: prompt, told: visible(name), reply, prompted: true });
    } else {
      const turns = Array.isArray(messages) ? messages.filter((each) => each && typeof each.content === "string") : [];
      let parent = null;
      const system = turns.find((each) => each.role === "system")?.content;
      const said = turns.filter((each) => each.role !== "system");
      for (let at = 0; at + 2 < said.length; at += 2) {
        const earlier = new Reply({ ...reply.header, preset: {} });
        earlier.pushEnd({ text: said[at + 1].content, finish_reason: "stop" });
        parent = this.tree.add({ parent, kind: "chat", question: said[at].content, told: quoted(said[at].content.slice(0, 40)), reply: earlier, system, prompted: false });
      }
      const question = said.length % 2 ? said.at(-1).content : null;
      this.tree.add({ parent, kind: "chat", question, told: visible(name), reply, prompted: question !== null, system });
    }
    this.show();
  }

  // --- generating ------------------------------------------------------------------------------------

  /** The messages before a reply. */
  messages(parent, question, system) {
    const path = [];
    for (let node = parent; node; node = node.parent) path.unshift(node);
    const found = system ? [{ role: "system", content: system }] : [];
    for (const node of path) found.push({ role: "user", content: node.question ?? "" }, { role: "assistant", content: node.reply.text });
    return [...found, { role: "user", content: question }];
  }

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
    const given = from ? promptOf(from) : kind === "text" ? { prompt: question } : { messages: this.messages(parent, question, set.system ?? system) };
    const header = this.headerOf(set, options, given);
    const reply = from ? from.begin(place, ids, text, header) : new Reply(header, this.texts);
    const node = this.tree.add({ parent, kind, question, told, system, reply, prompted: true });
    clear(this.alert);
    this.running = new AbortController();
    this.show();
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
    const begun = performance.now();
    const draw = throttled(() => this.drawTokens(node, begun));
    try {
      for await (const event of api.stream(path, body, this.running.signal)) {
        this.take(reply, event);
        draw();
      }
    } catch (error) {
      if (error.name === "AbortError") reply.finish = "cancelled";
      else {
        node.fault = error.message;
        if (!reply.tokens.length || error.status === 401) this.tell(error);
      }
    }
    this.running = null;
    this.drawTokens(node, begun);
    this.show();
    this.viewer.updatePlots();
    this.tree.draw();
  }

  take(reply, event) {
    if (event.usage) reply.header.prompt_tokens = event.usage.prompt_tokens;
    for (const choice of event.choices) {
      const extension = choice.entropix;
      if (!extension) continue;
      for (const record of extension.events || []) reply.push(record);
      if (extension.summary) reply.summary = extension.summary;
    }
  }

  drawTokens(node, begun) {
    const follows = this.turns.scrollHeight - this.turns.scrollTop - this.turns.clientHeight < 40;
    this.viewer.update(node.reply);
    if (follows) this.turns.scrollTop = this.turns.scrollHeight;
    const seconds = (performance.now() - begun) / 1000;
    if (this.running) clear(this.notes, el("p", {}, `${plural(node.reply.tokens.length, "token")}, ${(node.reply.tokens.length / seconds).toFixed(0)} a second`));
  }
}

/** What a reply answered, so that it is gone on from with the very same prompt. */
const promptOf = ({ header }) => (typeof header.prompt === "string" ? { prompt: header.prompt } : { messages: header.messages });

const ENDINGS = {
  length: "Cut at the most tokens: Continue goes on.",
  context: "The context is full.",
  repetition: "Ended where it went round in a loop.",
  cancelled: "Stopped.",
};
