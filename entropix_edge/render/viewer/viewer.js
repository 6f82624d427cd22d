// What the page and the file share: the text, and beside it the token, the timeline, the plane, the thresholds.

const COLOURINGS = { strategy: "strategy", entropy: "entropy", none: "nothing" };
const DRAWN_AT_LEAST = 120; // milliseconds between drawings of the plots while tokens come

class Viewer {
  /**
   * @param table the conditions: `{rules, otherwise}`.
   * @param actions what can be done with a reply: `goOn`, `goOnWith`, `whyNot`; null where nothing can.
   */
  constructor(table, actions = null) {
    this.table = table;
    this.actions = actions;
    this.panes = new Map(); // reply → its pane
    this.reply = null;
    this.selected = null;
    this.hovered = null;
    this.colouring = "strategy";
    this.changed = null; // thresholds that were moved
    this.replyPanels = [];
    this.said = el("p", { class: "visually-hidden", role: "status" });
    this.tip = el("div", { class: "tip", "aria-hidden": "true", hidden: true });
    this.timeline = new Timeline(this);
    this.plane = new Plane(this);
    this.inspector = new Inspector(this);
    this.summary = new Summary(this);
    this.sliders = new Sliders(this);
    this.drawPlots = throttled(() => this.updatePlots(), DRAWN_AT_LEAST);
    this.drawVerdicts = throttled(() => this.recolour());
  }

  // --- what is shown ---------------------------------------------------------------------------------

  /** The pane of a reply; made where there is none. */
  pane(reply) {
    if (!this.panes.has(reply)) this.panes.set(reply, new TextPane(this, reply));
    return this.panes.get(reply);
  }

  /** Forget the panes of replies that are not shown any more. */
  keepPanes(replies) {
    for (const reply of this.panes.keys()) if (!replies.includes(reply)) this.panes.delete(reply);
    if (this.hoveredReply) this.hover(this.hoveredReply, null, null); // what was under the pointer has moved
  }

  show(reply) {
    for (const panel of this.replyPanels) panel.hidden = !reply;
    if (this.reply === reply) return;
    this.select(this.reply, null);
    this.reply = reply;
    this.timeline.show(reply);
    this.plane.show(reply);
    this.sliders.show(reply);
    this.summary.show(reply);
  }

  /** Tokens have come. */
  update(reply) {
    this.pane(reply).update();
    if (reply === this.reply) this.drawPlots();
  }

  updatePlots() {
    this.timeline.update();
    this.plane.update();
    this.summary.show(this.reply);
    this.sliders.count();
  }

  // --- thresholds ------------------------------------------------------------------------------------

  /** The thresholds that a reply was generated with; null where they are unknown. */
  generatedWith(reply) {
    return thresholdsOf(reply.preset, this.table);
  }

  /** Those to judge by: as moved, or as generated with. */
  thresholds(reply) {
    return this.changed || this.generatedWith(reply);
  }

  /** What a token counts as: what was done, or, where thresholds were moved, what would have been. */
  verdict(reply, token) {
    if (!this.changed || token.entropy === null) return { strategy: token.strategy, moved: false };
    const strategy = classify(token.entropy, token.varentropy, this.table, this.changed);
    const generated = this.generatedWith(reply);
    const before = generated ? classify(token.entropy, token.varentropy, this.table, generated) : token.strategy;
    return strategy === before ? { strategy: token.strategy, moved: false } : { strategy, moved: true };
  }

  moveThresholds(thresholds) {
    this.changed = thresholds;
    if (!thresholds) this.sliders.show(this.reply);
    this.drawVerdicts();
  }

  recolour() {
    for (const pane of this.panes.values()) pane.recolour();
    this.timeline.recolour();
    this.plane.recolour();
    this.sliders.count();
    if (this.reply && this.selected !== null) this.inspector.show(this.reply, this.reply.tokens[this.selected]);
  }

  // --- one token -------------------------------------------------------------------------------------

  select(reply, place, { quietly = false } = {}) {
    if (reply !== this.reply && reply !== null) this.show(reply);
    const old = this.reply ? this.panes.get(this.reply) : null;
    const token = this.reply && place !== null ? this.reply.tokens[place] : null;
    this.selected = token ? place : null;
    if (old) old.mark(this.selected);
    if (token) {
      this.inspector.show(reply, token);
      clear(this.said, quietly ? spoken(reply, token) : "");
      this.pane(reply).reveal(place);
    } else {
      this.inspector.empty();
    }
    this.timeline.mark();
    this.plane.mark();
  }

  hover(reply, place, target) {
    if (!reply || (place === this.hovered && this.hoveredReply === reply)) return;
    const before = this.hoveredReply ? this.panes.get(this.hoveredReply) : null;
    if (before && this.hovered !== null) before.lift(this.hovered, false);
    this.hoveredReply = reply;
    this.hovered = place;
    const pane = this.panes.get(reply);
    if (pane && place !== null) pane.lift(place, true);
    this.showTip(reply, place, target || (pane && place !== null ? pane.spans[place] : null), Boolean(target));
    if (reply === this.reply) {
      this.timeline.mark();
      this.plane.mark();
    }
  }

  /** The few most probable tokens beside the pointer. */
  showTip(reply, place, target, inText) {
    const token = place === null ? null : reply.tokens[place];
    this.tip.hidden = !token || !target || !inText;
    if (this.tip.hidden) return;
    const rows = reply.alternativesOf(token).slice(0, 5).map((each) =>
      el("div", { class: each.id === token.id ? "taken" : null }, el("code", {}, visible(each.text)), el("span", {}, percent(each.logprob))),
    );
    const verdict = this.verdict(reply, token).strategy;
    const head = [percent(token.logprob), token.entropy === null ? null : `H ${fixed(token.entropy)}`, token.entropy === null ? null : `V ${fixed(token.varentropy)}`, verdict ? MEANINGS[verdict] : null];
    clear(this.tip, el("b", {}, head.filter(Boolean).join(" · ")), rows);
    const box = target.getClientRects()[0] || target.getBoundingClientRect();
    const left = Math.max(4, Math.min(box.left, document.documentElement.clientWidth - this.tip.offsetWidth - 4));
    const below = box.bottom + 4;
    const above = below + this.tip.offsetHeight > document.documentElement.clientHeight;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${above ? box.top - this.tip.offsetHeight - 4 : below}px`;
  }

  // --- going on from a token -------------------------------------------------------------------------

  whyNot(reply) {
    return this.actions ? this.actions.whyNot(reply) : null;
  }

  mayContinue(reply) {
    return Boolean(this.actions) && !this.actions.whyNot(reply);
  }

  // --- controls that both have -----------------------------------------------------------------------

  legend() {
    const choose = (event) => {
      this.colouring = event.target.value;
      clear(this.swatches, this.swatchesOf(this.colouring));
      this.recolour();
    };
    const options = Object.entries(COLOURINGS).map(([value, name]) => el("option", { value }, name));
    this.swatches = el("span", { class: "swatches" }, this.swatchesOf(this.colouring));
    return el("div", { class: "legend" }, el("label", {}, "Colour by ", el("select", { onchange: choose }, options)), this.swatches);
  }

  /** What each colour and line means. */
  swatchesOf(colouring) {
    const swatch = (name, text) => el("span", { class: `swatch ${name}` }, text);
    const steps = ENTROPY_STEPS.map((least, at) => swatch(`h${at + 1}`, `over ${least} bits`));
    const own = { strategy: STRATEGIES.map((name) => swatch(`s-${name}`, MEANINGS[name])), entropy: steps, none: [] };
    return [...own[colouring], swatch("paused", "pause"), swatch("corrected", "corrected"), swatch("chosen", "chosen")];
  }

  section(title, content, { open = true, save = null } = {}) {
    return el("details", { class: "panel", open }, el("summary", {}, el("h2", {}, title)), content, save ? saveButtons(save, title.toLowerCase()) : null);
  }

  timelinePanel() {
    return this.ofReply(this.section("Timeline", this.timeline.element, { save: this.timeline.svg }));
  }

  /** A panel that is there once there is a reply. */
  ofReply(panel) {
    this.replyPanels.push(panel);
    return panel;
  }

  /** The panels beside the text; `more` after the summary. */
  panels(more = null) {
    return [
      this.inspector.element,
      this.ofReply(this.section("Summary", this.summary.element)),
      more,
      this.ofReply(this.section("Plane", this.plane.element, { save: this.plane.svg })),
      this.ofReply(this.section("Thresholds", this.sliders.element, { open: false })),
    ];
  }
}
