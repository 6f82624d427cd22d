// One token: its numbers, why it is there, and what else could stand there.

const SHOWN_ALTERNATIVES = 10;

class Inspector {
  constructor(viewer) {
    this.viewer = viewer;
    this.heading = el("h2", { tabindex: -1 }, "Token");
    this.body = el("div", { class: "inspector-body" });
    this.element = el("section", { class: "panel inspector", "aria-label": "Token" }, this.heading, this.body);
    this.empty();
  }

  empty() {
    clear(this.heading, "Token");
    clear(this.body, el("p", { class: "hint" }, "Click a token, or walk through the text with the arrow keys, to see what the model knew there."));
    this.element.classList.remove("open");
  }

  focus() {
    this.heading.focus();
  }

  show(reply, token) {
    const { viewer } = this;
    clear(
      this.heading,
      `Token ${token.index} `,
      el("code", {}, visible(reply.nameOf(token)) || "∅"),
      el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => viewer.select(reply, null) }, "×"),
    );
    clear(
      this.body,
      el("p", { class: "why" }, why(reply, token, viewer.table, viewer.generatedWith(reply))),
      this.would(reply, token),
      this.numbers(reply, token),
      this.fork(reply, token),
      this.rejected(reply, token),
      this.alternatives(reply, token),
      this.ownWords(reply, token),
      this.thresholds(reply, token),
    );
    this.element.classList.add("open");
  }

  /** What the moved thresholds would have made of it. */
  would(reply, token) {
    const verdict = this.viewer.verdict(reply, token);
    if (!verdict.moved) return null;
    return el("p", { class: "would" }, `With the thresholds as you moved them: ${MEANINGS[verdict.strategy]} (${verdict.strategy}).`);
  }

  numbers(reply, token) {
    const rows = [["probability", percent(token.logprob)], ["rank", this.rank(reply, token)]];
    if (token.entropy !== null) {
      rows.push(["entropy H", `${fixed(token.entropy)} bits, ${choices(token.entropy)}`]);
      rows.push(["varentropy V", `${fixed(token.varentropy)} bits²`]);
    }
    const { attention } = token;
    if (attention) {
      rows.push(["attention entropy", `${fixed(number(attention.entropy))} bits`]);
      rows.push(["attention varentropy", `${fixed(number(attention.varentropy))} bits²`]);
      rows.push(["agreement", fixed(number(attention.agreement), 4)]);
      rows.push(["interaction strength", fixed(number(attention.interaction_strength))]);
    }
    rows.push(["token id", String(token.id)]);
    return el("dl", { class: "numbers" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  rank(reply, token) {
    const all = reply.alternativesOf(token);
    const at = all.findIndex((each) => each.id === token.id);
    if (at >= 0) return `${at + 1}`;
    return all.length ? `not among the ${all.length} most probable` : "unknown: the trace has no alternatives";
  }

  fork(reply, token) {
    const branches = reply.asidesOf(token, "branch");
    if (!branches.length) return null;
    const best = [...branches].sort((one, other) => number(other.score) - number(one.score));
    const rows = best.map((branch) => {
      const label = `${branch.kept ? "kept" : "not taken"}, score ${fixed(number(branch.score))}`;
      const go = branch.kept ? null : this.going(reply, token.place, branch.token_ids, branch.text, `the branch ${quoted(branch.text)}`);
      return this.row(branch.text, label, null, go, branch.kept);
    });
    return el("div", {}, el("h3", {}, `Fork: ${branches.length} branches`), el("ul", { class: "ways" }, rows));
  }

  rejected(reply, token) {
    const found = reply.asidesOf(token, "rejected");
    if (!found.length) return null;
    const rows = found.map((each) => {
      const limit = number(each.limit);
      const told = limit === null ? "would have gone round in a loop" : `${fixed(number(each.surprisal), 1)} bits, the limit was ${fixed(limit, 1)}`;
      return this.row(each.text, told, null, null, false);
    });
    return el("div", {}, el("h3", {}, "Rejected draws"), el("ul", { class: "ways" }, rows));
  }

  alternatives(reply, token) {
    const all = reply.alternativesOf(token).slice(0, SHOWN_ALTERNATIVES);
    if (!all.length) return null;
    const rows = all.map((each) => {
      const taken = each.id === token.id;
      const go = taken ? null : this.going(reply, token.place, [each.id], each.text, `${quoted(each.text)}, ${percent(each.logprob)}`);
      return this.row(each.text, percent(each.logprob) + (taken ? ", taken" : ""), Math.exp(each.logprob), go, taken);
    });
    const rest = Math.max(0, 1 - all.reduce((sum, each) => sum + Math.exp(each.logprob), 0));
    const others = el("li", { class: "rest" }, el("span", {}, "all other tokens together"), el("span", { class: "told" }, percent(Math.log(rest))), this.bar(rest));
    return el("div", {}, el("h3", {}, `The ${all.length} most probable`), el("ul", { class: "ways" }, rows, others));
  }

  /** A way on: a button where it can be gone. */
  row(text, told, share, go, marked) {
    const inside = [el("code", {}, visible(String(text)) || "∅"), el("span", { class: "told" }, told), share === null ? null : this.bar(share)];
    return el("li", { class: marked ? "marked" : null }, go ? el("button", { type: "button", ...go }, inside) : inside);
  }

  going(reply, place, ids, text, label) {
    if (!this.viewer.mayContinue(reply)) return null;
    return { "aria-label": `Go on from here with ${label}`, title: "Go on from here with this", onclick: () => this.viewer.actions.goOn(reply, place, ids, text) };
  }

  bar(share) {
    const width = Math.max(1, 100 * share);
    return svg("svg", { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width, height: 4 }));
  }

  ownWords(reply, token) {
    if (!this.viewer.mayContinue(reply) || !this.viewer.actions.goOnWith) return this.notHere(reply);
    const input = el("input", { type: "text", "aria-label": "Your own words to go on with from here", placeholder: "other words to go on with" });
    const submit = (event) => {
      event.preventDefault();
      if (input.value) this.viewer.actions.goOnWith(reply, token.place, input.value);
    };
    const again = () => this.viewer.actions.goOn(reply, token.place, [], "");
    return el(
      "form",
      { class: "own-words", onsubmit: submit },
      input,
      el("button", { type: "submit" }, "Go on"),
      el("button", { type: "button", onclick: again, title: "Keep what is before this token, and draw anew from here" }, "Draw anew"),
    );
  }

  notHere(reply) {
    const reason = this.viewer.whyNot(reply);
    return reason ? el("p", { class: "hint" }, reason) : null;
  }

  thresholds(reply, token) {
    const thresholds = this.viewer.generatedWith(reply);
    if (!thresholds || token.entropy === null) return null;
    const rows = this.viewer.table.rules.map((rule) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, `${MEANINGS[rule.strategy] ?? rule.strategy} (${rule.strategy})`),
        rule.conditions.map(({ metric, is, threshold }) => {
          const holding = holds(token[metric], is, thresholds[threshold]);
          const sign = is === "below" ? "<" : ">";
          return el("td", { class: holding ? "holds" : null }, `${LETTERS[metric]} ${sign} ${fixed(thresholds[threshold])} `, icon(holding ? "✓" : "✗", holding ? "holds" : "does not hold"));
        }),
      ),
    );
    return el("details", {}, el("summary", {}, "Thresholds"), el("table", { class: "thresholds" }, el("tbody", {}, rows)));
  }
}
