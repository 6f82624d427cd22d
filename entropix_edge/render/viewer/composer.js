// Where questions are written, and a reply is written over.

const MODES = {
  chat: { name: "chat", send: "Ask", hint: "Ask something. Enter asks, Shift-Enter begins a line." },
  text: { name: "raw text", send: "Go on", hint: "A text to go on from, without the chat template. Ctrl-Enter goes on." },
};

class Composer {
  /** @param page its `ask` and `stop` are called. */
  constructor(page) {
    this.page = page;
    this.editing = null; // the turn that is asked differently
    this.question = el("textarea", { id: "question", rows: 3, placeholder: MODES.chat.hint, onkeydown: (event) => this.key(event) });
    const modes = Object.entries(MODES).map(([value, { name }]) => el("option", { value }, name));
    this.modes = el("select", { id: "mode", onchange: () => this.showMode() }, modes);
    this.send = el("button", { type: "submit", class: "main" }, MODES.chat.send);
    this.stop = el("button", { type: "button", onclick: () => page.stop(), disabled: true }, "Stop");
    this.note = el("p", { class: "hint editing", role: "status" });
    this.element = el(
      "form",
      { class: "composer", onsubmit: (event) => this.submit(event) },
      this.note,
      el("label", { for: "question", class: "visually-hidden" }, "Your question"),
      this.question,
      el("div", { class: "buttons" }, el("label", { for: "mode", class: "visually-hidden" }, "What the text is"), this.modes, this.stop, this.send),
    );
  }

  get mode() {
    return this.modes.value;
  }

  showMode() {
    this.question.placeholder = MODES[this.mode].hint;
    clear(this.send, MODES[this.mode].send);
  }

  showRunning(running) {
    this.stop.disabled = !running;
    this.send.disabled = running;
  }

  /** A line of text is sent with Enter, a text of many lines with Ctrl-Enter; Esc gives up asking differently. */
  key(event) {
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && (control || this.mode === "chat")) this.submit(event);
    else if (event.key === "Escape" && this.editing && !this.page.running) this.giveUp();
  }

  submit(event) {
    event.preventDefault();
    const question = this.question.value;
    if (this.page.running || question.trim() === "") return;
    if (this.page.ask({ question, kind: this.mode, edited: this.editing })) this.empty();
  }

  empty() {
    this.question.value = "";
    this.editing = null;
    clear(this.note);
  }

  /** Take a turn's question up, to ask it differently. */
  edit(node) {
    if (!this.editing) this.draft = { text: this.question.value, mode: this.mode };
    this.editing = node;
    this.question.value = node.question;
    this.modes.value = node.kind;
    this.showMode();
    clear(this.note, "Asked differently, this begins a new reply; the old one is kept under Tried. ", el("button", { type: "button", onclick: () => this.giveUp() }, "Cancel"));
    this.question.focus();
  }

  giveUp() {
    const { text, mode } = this.draft;
    this.empty();
    this.question.value = text;
    this.modes.value = mode;
    this.showMode();
    this.question.focus();
  }
}

/** A reply's text to be written over: `go` is called with the new text, `keep` too, `close` without one. */
function rewriting(reply, { go, keep, close }) {
  const text = el("textarea", { class: "rewrite", rows: Math.min(12, 1 + Math.ceil(reply.text.length / 80)), "aria-label": "The reply, to be written over" });
  text.value = reply.text;
  const submit = (event) => {
    event.preventDefault();
    go(text.value);
  };
  const key = (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  };
  return el(
    "form",
    { class: "rewriting", onsubmit: submit, onkeydown: key },
    text,
    el(
      "div",
      { class: "buttons" },
      el("button", { type: "submit", class: "main", title: "Ctrl-Enter: the model writes on at the end" }, "Go on from this"),
      el("button", { type: "button", onclick: () => keep(text.value), title: "The reply as you wrote it; nothing is generated" }, "Keep as written"),
      el("button", { type: "button", onclick: close }, "Cancel"),
    ),
  );
}

/** How far a reply's tokens can be kept for another text: their count, and what is left of the text. */
function keptFor(reply, text) {
  let place = 0;
  let length = 0;
  for (const token of reply.tokens) {
    if (!text.startsWith(token.text, length)) break;
    length += token.text.length;
    place += 1;
  }
  while (place > 0 && length < text.length && reply.tokens[place - 1].text === "") place -= 1; // it begins a character that was changed
  return { place, left: text.slice(length) };
}
