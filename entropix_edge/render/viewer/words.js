// Why a token is what it is, in one sentence.

const LETTERS = { entropy: "H", varentropy: "V" };
const UNITS = { entropy: "bits", varentropy: "bits²" };
const LEAST_LOGPROB = -7; // another token with less than 0.1 % is not worth naming
const DOINGS = { branch: "fork", resample: "go back", pause: "pause" };

/** Why a token is what it is. `thresholds` are those that the reply was generated with, null where they are unknown. */
function why(reply, token, table, thresholds) {
  const measured = conditionOf(token, table, thresholds);
  const done = doneAt(reply, token);
  const before = reply.asidesOf(token).map(asideInWords).filter(Boolean);
  const sentence = measured ? `${measured}, ${done}` : done;
  return [...before, sentence].map((each) => each[0].toUpperCase() + each.slice(1) + ".").join(" ");
}

function conditionOf(token, table, thresholds) {
  if (token.entropy === null) return "";
  const values = `H ${fixed(token.entropy)}`;
  if (!thresholds) return `${values} bits, V ${fixed(token.varentropy)} bits²`;
  const verdict = classify(token.entropy, token.varentropy, table, thresholds);
  const rule = table.rules.find((each) => each.strategy === verdict);
  if (!rule) return `${values} and V ${fixed(token.varentropy)} lie in none of the four quadrants: ${MEANINGS[verdict] ?? verdict}`;
  const parts = rule.conditions.map(({ metric, is, threshold }, at) => {
    const value = `${LETTERS[metric]} ${fixed(token[metric])}`;
    const side = is === "below" ? "under" : "above";
    return `${value} ${at ? "" : "is "}${side} ${fixed(thresholds[threshold])}`;
  });
  return `${parts.join(" and ")}: ${MEANINGS[verdict] ?? verdict}`;
}

/** What was done at a token's place. */
function doneAt(reply, token) {
  const name = quoted(reply.nameOf(token));
  const fork = reply.asidesOf(token, "branch");
  if (token.chosen) return `${name} was chosen by you`;
  if (token.corrected) return `${name} was put in as right`;
  if (fork.length) return forkInWords(reply, fork);
  if (token.origin === "forced") return token.strategy === "pause" ? `${name} was put in, to think on` : `${name} was put in`;
  if (token.origin === "branch") return `${name} stands on the branch that was kept`;
  const sampler = reply.header.sampler;
  if (sampler === "greedy") return `and greedy took the most probable token, ${name}`;
  if (sampler === "temperature") return `and one draw gave ${name}`;
  if (token.strategy === "argmax") return `took the most probable token, ${name}`;
  const draws = token.strategy === "adaptive" && reply.preset.adaptive ? reply.preset.adaptive.draws : 1;
  return draws > 1 ? `drew ${draws} times and kept the most probable, ${name}` : `drew ${name}`;
}

function forkInWords(reply, fork) {
  const lengths = fork.map((branch) => branch.token_ids.length);
  const least = Math.min(...lengths);
  const most = Math.max(...lengths);
  const steps = least === most ? plural(most, "token") : `${least} to ${most} tokens`;
  const kept = fork.find((branch) => branch.kept);
  return `looked ${steps} down ${plural(fork.length, "branch").replace("branchs", "branches")}${kept ? `, kept ${quoted(kept.text)}` : ""}`;
}

function asideInWords(aside) {
  const text = quoted(String(aside.text ?? ""));
  switch (aside.event) {
    case "rejected":
      return aside.limit === null
        ? `rejected ${text}, which would have gone round in a loop`
        : `rejected ${text} as atypical: ${fixed(number(aside.surprisal), 1)} bits, the limit was ${fixed(number(aside.limit), 1)}`;
    case "rewind":
      return `took ${text} back, which was scattered, and began again here`;
    case "correction":
      return `took ${text} back: ${visible(String(aside.expression))} is ${visible(String(aside.right))}, not ${visible(String(aside.found))}`;
    case "fallback":
      return `could not ${DOINGS[aside.strategy] ?? aside.strategy}: ${visible(String(aside.reason))}`;
    default:
      return "";
  }
}

/** How many equally probable tokens have an entropy in bits. */
function choices(entropy) {
  const count = 2 ** entropy;
  return `as unsure as among ${count < 9.95 ? count.toFixed(1) : count.toFixed(0)} equal choices`;
}

/** A reply's confidence and what it means: null, a number, or an object whose `kind` says what its value is. */
function confidenceInWords(confidence, reply) {
  if (confidence === null || confidence === undefined) return null;
  if (typeof confidence === "number") {
    const meaning = "2 to the power of minus the mean entropy: 1 where the model was sure of every token.";
    return { value: confidence.toFixed(2), meaning: `${meaning} It is not the probability that the reply is right.` };
  }
  const value = number(confidence.value);
  if (value === null) return null;
  const share = Math.round(100 * value);
  const basis = Number.isInteger(confidence.compared) ? confidence.compared : "some";
  if (confidence.kind === "probability") {
    const answer = confidence.answer ? `The answer is ${quoted(String(confidence.answer))}; the` : "The";
    const unsure = unsureOf(confidence, reply);
    const named = unsure.length ? ` Least sure of ${listed(unsure)}.` : "";
    return { value: `${share} % likely to be right`, meaning: `${answer} probability was fitted to ${basis} answers of its kind.${named}` };
  }
  const rank = share < 50 ? `less sure than ${100 - share} %` : `surer than ${share} %`;
  return { value: `${rank} of this model's replies`, meaning: "A rank: how often such a reply is right is not known." };
}

/** The least sure tokens that carry the answer: a trace names their places, the server the tokens. */
function unsureOf(confidence, reply) {
  const places = Array.isArray(confidence.least_sure) ? confidence.least_sure.map((each) => each?.index ?? each) : [];
  const tokens = places.map((index) => reply.tokens.find((token) => token.index === index)).filter(Boolean);
  return tokens.map((token) => {
    const others = reply.alternativesOf(token).filter(({ id, logprob }) => id !== token.id && logprob > LEAST_LOGPROB);
    const also = others.slice(0, 2).map(({ text, logprob }) => `${quoted(text)} ${percent(logprob)}`);
    return quoted(token.text) + (also.length ? ` (also ${listed(also)})` : "");
  });
}

/** A token in a line, for a screen reader and for tooltips. */
function spoken(reply, token) {
  const parts = [`token ${token.index}, ${quoted(reply.nameOf(token))}, ${percent(token.logprob)}`];
  if (token.entropy !== null) parts.push(`H ${fixed(token.entropy)}, V ${fixed(token.varentropy)}`);
  if (token.strategy) parts.push(MEANINGS[token.strategy] ?? token.strategy);
  if (token.chosen) parts.push("chosen by you");
  if (token.corrected) parts.push("corrected");
  const fork = reply.asidesOf(token, "branch");
  if (fork.length) parts.push(`fork of ${fork.length}`);
  return parts.join(", ");
}
