// What was tried: questions and replies, each a child of the turn that it follows.

class Tree {
  /** @param choose called with the node that is clicked. */
  constructor(choose) {
    this.choose = choose;
    this.nodes = [];
    this.current = null;
    this.before = []; // what was shown before, for undo
    this.element = el("div", { class: "tree" });
    this.draw();
  }

  /** Add a turn and show it. `told` says how it came about. */
  add(node) {
    this.nodes.push({ id: this.nodes.length, ...node });
    return this.go(this.nodes.at(-1));
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
      return el("li", {}, el("button", { type: "button", "aria-current": current, onclick: () => this.choose(node) }, label), this.children(node));
    });
    return el("ul", {}, rows);
  }
}
