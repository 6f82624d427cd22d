// A reply as a whole, and the candidates that it was chosen from.

class Summary {
  constructor(viewer) {
    this.viewer = viewer;
    this.element = el("div", { class: "summary" });
  }

  show(reply) {
    if (!reply || !reply.tokens.length) {
      clear(this.element, el("p", { class: "hint" }, "Nothing was generated yet."));
      return;
    }
    const figures = reply.figures();
    clear(this.element, this.confidence(reply), this.facts(reply, figures), this.leastSure(reply, figures.leastSure));
  }

  confidence(reply) {
    const told = confidenceInWords(reply.confidence, reply);
    if (!told) return null;
    const part = reply.tokens.some((token) => token.chosen) ? " (of the part that was generated anew)" : "";
    return el("p", { class: "confidence" }, el("b", {}, `Confidence: ${told.value}${part}.`), ` ${told.meaning}`);
  }

  facts(reply, figures) {
    const shares = STRATEGIES.filter((name) => figures.counts[name]).map((name) =>
      el("span", {}, el("span", { class: `swatch s-${name}` }, MEANINGS[name]), ` ${Math.round((100 * figures.counts[name]) / figures.tokens)} % `),
    );
    const rows = [
      ["tokens", String(figures.tokens)],
      ["mean entropy", figures.mean === null ? "?" : `${fixed(figures.mean)} bits`],
      ["greatest entropy", `${fixed(figures.greatest)} bits`],
      ["perplexity", fixed(figures.perplexity)],
      ["forks", String(figures.forks)],
      ["extra decoded tokens", Number.isInteger(reply.header.extra_decoded_tokens) ? String(reply.header.extra_decoded_tokens) : null],
      ["ended by", reply.finish],
      ["seed", reply.header.seed === undefined || reply.header.seed === null ? null : String(reply.header.seed)],
      ["model", reply.header.model ? visible(String(reply.header.model)) : null],
    ].filter(([, value]) => value);
    return [el("p", { class: "shares" }, shares), el("dl", { class: "numbers" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))))];
  }

  leastSure(reply, tokens) {
    const items = tokens.map((token) =>
      el(
        "li",
        {},
        el(
          "button",
          { type: "button", onclick: () => this.viewer.select(reply, token.place) },
          el("span", { class: "told" }, `${fixed(token.entropy)} bits`),
          el("span", { class: "before" }, this.before(reply, token)),
          el("code", {}, visible(reply.nameOf(token))),
        ),
      ),
    );
    return items.length ? el("div", {}, el("h3", {}, "Least sure of"), el("ol", { class: "ways" }, items)) : null;
  }

  before(reply, token) {
    const text = reply.tokens.slice(Math.max(0, token.place - 6), token.place).map((each) => each.text).join("");
    return visible(text).slice(-24);
  }
}

/** Candidates side by side, with their votes. */
function candidatesOf(viewer, reply) {
  if (!reply.candidates.length) return null;
  const votes = new Map();
  for (const { answer, confidence } of reply.candidates) {
    if (answer === null || answer === undefined) continue;
    const before = votes.get(answer) || { count: 0, weight: 0 };
    votes.set(answer, { count: before.count + 1, weight: before.weight + (number(confidence) ?? 0) });
  }
  const ranking = [...votes].sort(([, one], [, other]) => other.weight - one.weight);
  const counted = ranking.map(([answer, { count, weight }]) => el("li", {}, el("code", {}, visible(String(answer))), ` ${plural(count, "vote")}, confidence ${fixed(weight)} in all`));
  const cards = reply.candidates.map((candidate) => {
    const go = candidate.kept || !viewer.mayContinue(reply) ? null : () => viewer.actions.goOn(reply, 0, candidate.token_ids, candidate.text, { whole: true });
    const head = `${candidate.number + 1}${candidate.kept ? ", kept" : ""}: confidence ${fixed(number(candidate.confidence))}`;
    const answer = candidate.answer === null || candidate.answer === undefined ? "no vote" : `votes for ${visible(String(candidate.answer))}`;
    return el("article", { class: candidate.kept ? "candidate kept" : "candidate", "aria-label": `Candidate ${candidate.number + 1}` }, el("h2", {}, head), el("p", {}, answer), el("div", { class: "text", tabindex: 0, role: "group", "aria-label": "Text" }, candidate.text), go ? el("button", { type: "button", onclick: go }, "Go on from this one") : null);
  });
  return el("details", { class: "candidates", open: true }, el("summary", {}, `Chosen from ${reply.candidates.length} candidates`), counted.length ? el("ul", {}, counted) : null, el("div", { class: "cards" }, cards));
}
