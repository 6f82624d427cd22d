// The text of a reply, a span a token. Read as plain text; with the keyboard one token at a time is chosen.

const ENTROPY_STEPS = [0.5, 1.5, 3, 5]; // bits, between the steps of the colouring by entropy
const UNSEEN = /^[\p{Cf}\p{Cc}]*(?<!\t)$/u; // no text, or none that can be seen: a sign stands for it, to be clicked
const UNSURE = 1; // bits: what the up and down keys stop at

/** Two branches off a stem: few fonts have a sign for it. */
const forkSign = () =>
  svg("svg", { class: "fork-sign", viewBox: "0 0 10 12", "aria-hidden": "true" }, svg("path", { d: "M5 12V7M5 7C5 4 1.5 5 1.5 1M5 7C5 4 8.5 5 8.5 1" }));

class TextPane {
  constructor(viewer, reply) {
    this.viewer = viewer;
    this.reply = reply;
    this.spans = [];
    this.drawn = 0; // events that were drawn
    this.element = el("div", {
      class: "reply",
      tabindex: 0,
      role: "group",
      "aria-roledescription": "reply",
      "aria-label": "Reply. Left and right: token by token; up and down: unsure tokens; Enter: the token's numbers.",
      onclick: (event) => this.click(event),
      onkeydown: (event) => this.key(event),
      onmouseover: (event) => this.viewer.hover(this.reply, this.placeOf(event.target), event.target),
      onmouseleave: () => this.viewer.hover(this.reply, null, null),
    });
    this.tail = el("span", { class: "tail" });
    this.element.append(this.tail);
    this.update();
  }

  /** Draw what has come. */
  update() {
    const piece = document.createDocumentFragment();
    const { tokens, emptied } = this.reply;
    const before = emptied && this.spans[emptied.place];
    if (before && before.textContent) {
      before.textContent = "";
      this.colour(emptied);
    }
    while (this.spans.length < tokens.length) {
      const token = tokens[this.spans.length];
      const chip = this.chip(token);
      if (chip) piece.append(chip);
      const span = el("span", { "data-place": token.place }, token.text);
      this.spans.push(span);
      this.colour(token);
      piece.append(span);
    }
    this.element.insertBefore(piece, this.tail);
    if (this.tail.textContent !== this.reply.tail) this.tail.textContent = this.reply.tail;
  }

  recolour() {
    this.reply.tokens.forEach((token) => this.colour(token));
  }

  colour(token) {
    const span = this.spans[token.place];
    const classes = ["t"];
    const shown = this.viewer.verdict(this.reply, token);
    if (this.viewer.colouring === "entropy") classes.push(`h${ENTROPY_STEPS.filter((step) => token.entropy > step).length}`);
    else if (this.viewer.colouring === "strategy" && shown.strategy) classes.push(`s-${shown.strategy}`);
    if (shown.moved) classes.push("moved");
    if (token.chosen) classes.push("chosen");
    if (token.corrected) classes.push("corrected");
    else if (token.origin === "forced" && token.strategy === "pause") classes.push("paused");
    if (token.text.trim() === "" && token.text.includes("\n")) classes.push("newline");
    else if (UNSEEN.test(token.text)) classes.push("unseen");
    if (token.place === this.marked) classes.push("selected");
    span.className = classes.join(" ");
  }

  /** What stands before a token where more happened than a draw. */
  chip(token) {
    const forks = this.reply.asidesOf(token, "branch").length;
    const corrections = this.reply.asidesOf(token, "correction").length;
    const rewinds = this.reply.asidesOf(token, "rewind").length;
    const rejected = this.reply.asidesOf(token, "rejected").length;
    if (!forks && !corrections && !rewinds && !rejected) return null;
    const [shown, said] = forks
      ? [[forkSign(), forks], `Fork of ${forks} branches`]
      : corrections
        ? ["=", "Corrected number"]
        : rewinds
          ? ["↶", "Rewind"]
          : ["∅", plural(rejected, "rejected draw")];
    const label = `${said} at token ${token.index}`;
    return el("button", { type: "button", class: "chip", "data-place": token.place, "aria-label": label, title: label }, shown);
  }

  mark(place) {
    const before = this.marked;
    this.marked = place;
    for (const each of [before, place]) {
      if (each !== null && each !== undefined && this.reply.tokens[each]) this.colour(this.reply.tokens[each]);
    }
  }

  lift(place, on) {
    const span = this.spans[place];
    if (span) span.classList.toggle("hovered", on);
  }

  reveal(place) {
    const span = this.spans[place];
    if (span) span.scrollIntoView({ block: "nearest" });
  }

  placeOf(target) {
    const holder = target.closest ? target.closest("[data-place]") : null;
    return holder ? Number(holder.dataset.place) : null;
  }

  click(event) {
    if (String(document.getSelection()) !== "" && !event.target.closest("button")) return; // text is being selected
    const place = this.placeOf(event.target);
    if (place !== null) this.viewer.select(this.reply, place);
  }

  key(event) {
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const { tokens } = this.reply;
    const from = this.viewer.reply === this.reply && this.viewer.selected !== null ? this.viewer.selected : null;
    const unsure = (token) => token.entropy >= UNSURE || this.reply.asidesOf(token).length > 0;
    let next = null;
    if (event.key === "ArrowRight") next = from === null ? 0 : Math.min(from + 1, tokens.length - 1);
    else if (event.key === "ArrowLeft") next = from === null ? tokens.length - 1 : Math.max(from - 1, 0);
    else if (event.key === "ArrowDown") next = tokens.findIndex((token) => token.place > (from ?? -1) && unsure(token));
    else if (event.key === "ArrowUp") next = tokens.findLastIndex((token) => token.place < (from ?? Infinity) && unsure(token));
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = tokens.length - 1;
    else if (event.key === "Enter" && from !== null) this.viewer.inspector.focus();
    else return;
    event.preventDefault();
    if (next !== null && next >= 0 && tokens[next]) this.viewer.select(this.reply, next, { quietly: true });
  }
}
