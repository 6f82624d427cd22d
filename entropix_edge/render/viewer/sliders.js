// The thresholds, to be moved: what would have been done, without running anything.

const FARTHEST = { entropy: 8, varentropy: 24 };

class Sliders {
  constructor(viewer) {
    this.viewer = viewer;
    this.rows = new Map(); // threshold → its input and output
    this.counts = el("tbody", {});
    this.reset = el("button", { type: "button", onclick: () => this.viewer.moveThresholds(null) }, "Put back");
    this.use = el("input", { type: "checkbox", id: "use-thresholds" });
    this.useLabel = el("label", { for: "use-thresholds" }, this.use, " generate with these too");
    this.body = el("div", {});
    this.element = el(
      "div",
      { class: "sliders" },
      this.body,
      el("p", { class: "buttons" }, this.reset, viewer.actions ? this.useLabel : null),
      el("table", { class: "counts" }, el("thead", {}, el("tr", {}, ["strategy", "tokens", "would be"].map((name) => el("th", { scope: "col" }, name)))), this.counts),
    );
  }

  /** Make the sliders for a reply's thresholds. */
  show(reply) {
    this.reply = reply;
    const now = reply ? this.viewer.thresholds(reply) : null;
    this.element.hidden = !now;
    if (!now) return;
    if (!this.rows.size) this.make();
    for (const [threshold, row] of this.rows) this.set(row, now[threshold]);
    this.count();
  }

  make() {
    for (const { strategy, conditions } of this.viewer.table.rules) {
      const fields = conditions.map(({ metric, is, threshold }) => this.field(strategy, metric, is, threshold));
      this.body.append(el("fieldset", {}, el("legend", {}, el("span", { class: `swatch s-${strategy}` }, MEANINGS[strategy]), ` ${strategy}`), fields));
    }
  }

  field(strategy, metric, is, threshold) {
    const id = `slider-${threshold.replace(".", "-")}`;
    const output = el("output", { for: id });
    const input = el("input", { type: "range", id, min: 0, max: FARTHEST[metric], step: 0.01, oninput: () => this.move(threshold, Number(input.value)) });
    this.rows.set(threshold, { input, output, metric });
    return el("div", { class: "slider" }, el("label", { for: id }, `${LETTERS[metric]} ${is === "below" ? "under" : "above"}`), input, output);
  }

  set({ input, output, metric }, value) {
    input.max = Math.max(FARTHEST[metric], Math.ceil(value));
    input.value = value;
    clear(output, `${fixed(value)} ${UNITS[metric]}`);
  }

  move(threshold, value) {
    this.set(this.rows.get(threshold), value);
    this.viewer.moveThresholds({ ...this.viewer.thresholds(this.reply), [threshold]: value });
  }

  /** How many tokens are in each quadrant, and how many would be. */
  count() {
    if (!this.reply) return;
    const was = {};
    const would = {};
    for (const token of this.reply.tokens) {
      if (token.strategy) was[token.strategy] = (was[token.strategy] || 0) + 1;
      const { strategy } = this.viewer.verdict(this.reply, token);
      if (strategy) would[strategy] = (would[strategy] || 0) + 1;
    }
    clear(
      this.counts,
      STRATEGIES.map((name) => {
        const [before, after] = [was[name] || 0, would[name] || 0];
        return el("tr", { class: before === after ? null : "moved" }, el("th", { scope: "row" }, `${MEANINGS[name]} (${name})`), el("td", {}, String(before)), el("td", {}, String(after)));
      }),
    );
  }
}
