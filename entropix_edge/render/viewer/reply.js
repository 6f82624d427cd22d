// A reply as its events tell it: those of the server's extension and the lines of a trace are the same.

const TRACE_FORMAT = "entropix-edge trace ";
const TRACE_VERSION = 1;
const LEAST_SURE = 5;

class Reply {
  /**
   * @param header the facts of a trace's first line.
   * @param texts token id → text as it would be written alone; shared by the replies of one model.
   */
  constructor(header = {}, texts = new Map()) {
    this.header = header;
    this.texts = texts;
    this.events = []; // tokens and side events, in order
    this.tokens = [];
    this.asides = new Map(); // index → side events
    this.candidates = [];
    this.finish = null;
    this.tail = ""; // text that came with no token
    this.summary = null; // the server's own
    this.judged = null; // the trace's confidence event
    this.begun = null; // {kept, mine, first}: what the next event's text begins with
    this.emptied = null; // the token whose text came with the one after it
    this.correcting = false;
  }

  /** Take up an event, in the form of a trace's line. */
  push(record) {
    if ("origin" in record && record.token_id !== null) this.pushToken(record);
    else if (record.event === "end" || "origin" in record) this.pushEnd(record);
    else this.pushAside(record);
  }

  pushToken(record) {
    const metrics = record.metrics || {};
    const before = this.asides.get(record.index) || [];
    const forced = record.origin === "forced";
    const chosen = forced && !record.strategy; // a pause and a corrected number have one
    this.correcting = forced && !chosen && (this.correcting || before.some((aside) => aside.event === "correction"));
    const token = {
      index: record.index,
      place: this.tokens.length,
      id: record.token_id,
      text: this.ownText(String(record.text ?? "")),
      logprob: number(record.logprob),
      entropy: number(metrics.entropy),
      varentropy: number(metrics.varentropy),
      attention: metrics.attention || null,
      strategy: record.strategy || null,
      origin: record.origin,
      alternatives: this.packed(record.alternatives),
      corrected: this.correcting,
      chosen,
    };
    this.finish = record.finish_reason || this.finish;
    this.append(token);
    return token;
  }

  append(token) {
    this.tokens.push(token);
    this.events.push(token);
  }

  pushEnd(record) {
    this.tail += this.ownText(String(record.text ?? ""));
    this.finish = record.finish_reason || this.finish;
  }

  pushAside(record) {
    this.events.push(record);
    if (record.event === "candidate") {
      this.candidates.push(record);
      return;
    }
    if (record.event === "confidence") {
      this.judged = record;
      return;
    }
    const there = this.asides.get(record.index);
    if (there) there.push(record);
    else this.asides.set(record.index, [record]);
  }

  /** Alternatives in two numbers each: a token's text is the same wherever it stands. */
  packed(alternatives) {
    if (!alternatives || !alternatives.length) return null;
    const packed = new Float64Array(2 * alternatives.length);
    alternatives.forEach((each, number_) => {
      packed[2 * number_] = each.token_id;
      packed[2 * number_ + 1] = number(each.logprob) ?? -Infinity;
      if (!this.texts.has(each.token_id)) this.texts.set(each.token_id, String(each.text));
    });
    return packed;
  }

  /** The first event after tokens that the reply was begun with holds their text too. */
  ownText(text) {
    if (!this.begun) return text;
    const { kept, mine, first } = this.begun;
    this.begun = null;
    if (text.startsWith(kept + mine)) return text.slice(kept.length + mine.length);
    if (first) {
      first.text = ""; // what is before it ends in half a character: the next event has all of it
      this.emptied = first;
    }
    return text.startsWith(kept) ? text.slice(kept.length) : text;
  }

  /** The most probable tokens at a token's place, the best first. */
  alternativesOf(token) {
    const found = [];
    const packed = token.alternatives || [];
    for (let at = 0; at < packed.length; at += 2) {
      found.push({ id: packed[at], text: this.texts.get(packed[at]) ?? "", logprob: packed[at + 1] });
    }
    return found;
  }

  /** A token as it would be written alone. */
  nameOf(token) {
    return this.texts.get(token.id) || token.text;
  }

  asidesOf(token, kind) {
    const all = this.asides.get(token.index) || [];
    return kind ? all.filter((aside) => aside.event === kind) : all;
  }

  get text() {
    return this.tokens.map((token) => token.text).join("") + this.tail;
  }

  /** It as plain values, to be kept; `Reply.of` reads them. */
  plain() {
    const { header, events, finish, tail, summary } = this;
    const ids = new Set(this.ids);
    for (const { alternatives } of this.tokens) (alternatives || []).forEach((id, at) => at % 2 || ids.add(id));
    const texts = [...ids].filter((id) => this.texts.has(id)).map((id) => [id, this.texts.get(id)]);
    return { header, events, finish, tail, summary, texts };
  }

  static of({ header, events, finish, tail, summary, texts }, known) {
    const reply = new Reply(header, known);
    texts.forEach(([id, text]) => known.set(id, text));
    for (const event of events) "place" in event ? reply.append(event) : reply.pushAside(event);
    return Object.assign(reply, { finish, tail, summary });
  }

  get ids() {
    return this.tokens.map((token) => token.id);
  }

  /** How sure of the reply one may be; null where that is not known. */
  get confidence() {
    return this.summary && this.summary.confidence !== null ? this.summary.confidence : this.judged;
  }

  get preset() {
    return this.header.preset || {};
  }

  /**
   * A reply that begins as this one does and goes on otherwise.
   * @param place how many tokens are kept.
   * @param ids what follows them; may be empty.
   * @param text as those are written.
   */
  begin(place, ids, text, header) {
    const reply = new Reply(header, this.texts);
    const there = this.tokens[place];
    const limit = there ? there.index : Infinity;
    for (const event of this.events) {
      if (event.event === "candidate" || event.event === "confidence") continue;
      if ("place" in event ? event.place < place : event.index < limit) {
        if ("place" in event) reply.append({ ...event });
        else reply.pushAside(event);
      }
    }
    const kept = reply.text;
    ids.forEach((id, number_) => reply.append(this.chosen(reply.tokens.length, id, number_ ? "" : text, number_ ? null : there)));
    reply.begun = { kept, mine: text, first: ids.length ? reply.tokens[place] : null };
    return reply;
  }

  /** A token that the user chose; what was measured at its place is known for the first. */
  chosen(place, id, text, there) {
    const known = there && this.alternativesOf(there).find((each) => each.id === id);
    return {
      index: place,
      place,
      id,
      text,
      logprob: known ? known.logprob : there && there.id === id ? there.logprob : null,
      entropy: there ? there.entropy : null,
      varentropy: there ? there.varentropy : null,
      attention: there ? there.attention : null,
      strategy: null,
      origin: "forced",
      alternatives: there ? there.alternatives : null,
      corrected: false,
      chosen: true,
    };
  }

  /** The reply in a few numbers. */
  figures() {
    const measured = this.tokens.filter((token) => Number.isFinite(token.entropy));
    const total = measured.reduce((sum, token) => sum + token.entropy, 0);
    const logprob = this.tokens.reduce((sum, token) => sum + (token.logprob ?? 0), 0);
    const counts = {};
    for (const token of this.tokens) if (token.strategy) counts[token.strategy] = (counts[token.strategy] || 0) + 1;
    const forks = [...this.asides.values()].filter((asides) => asides.some((aside) => aside.event === "branch"));
    return {
      tokens: this.tokens.length,
      mean: measured.length ? total / measured.length : null,
      total,
      greatest: measured.reduce((most, token) => Math.max(most, token.entropy), 0),
      perplexity: this.tokens.length ? Math.exp(-logprob / this.tokens.length) : null,
      counts,
      forks: forks.length,
      leastSure: [...measured].sort((one, other) => other.entropy - one.entropy).slice(0, LEAST_SURE),
    };
  }
}

// --- traces ------------------------------------------------------------------------------------------

/** A token's line of a trace. */
function tokenRecord(reply, token, finish) {
  const measured = token.entropy !== null;
  const record = {
    index: token.index,
    token_id: token.id,
    text: token.text,
    logprob: written(token.logprob),
    metrics: measured
      ? { entropy: written(token.entropy), varentropy: written(token.varentropy), attention: token.attention }
      : null,
    strategy: token.strategy,
    origin: token.origin,
    finish_reason: finish,
  };
  const alternatives = reply.alternativesOf(token);
  if (alternatives.length) {
    record.alternatives = alternatives.map(({ id, text, logprob }) => ({ token_id: id, text, logprob: written(logprob) }));
  }
  return record;
}

const written = (value) => (value === Infinity ? "inf" : value === -Infinity ? "-inf" : value);

/** A reply as the text of a trace, which `read_trace` and `entropix-edge plot` read. */
function traceOf(reply) {
  const last = reply.tokens.at(-1);
  const carried = !reply.tail && last && reply.finish;
  const lines = [{ format: `${TRACE_FORMAT}${TRACE_VERSION}`, ...reply.header }];
  for (const event of reply.events) {
    lines.push("place" in event ? tokenRecord(reply, event, carried && event === last ? reply.finish : null) : event);
  }
  if (reply.finish && !carried) {
    const end = { index: reply.tokens.length, token_id: null, text: reply.tail, logprob: null, metrics: null, strategy: null };
    lines.push({ event: "end", ...end, finish_reason: reply.finish });
  }
  return lines.map((line) => JSON.stringify(line) + "\n").join("");
}

/** The reply of a trace's text; throws an Error that says what is wrong with it. */
function readTrace(text) {
  const lines = text.replace(/^\ufeff/, "").split("\n");
  const rest = lines.pop();
  const header = parsed(lines.length ? lines[0] : rest);
  if (!header || typeof header !== "object" || !("format" in header || "model" in header)) {
    throw new Error("the file is not a trace: its first line must describe the run");
  }
  const version = Number(String(header.format ?? `${TRACE_FORMAT}0`).slice(TRACE_FORMAT.length));
  if (!(version <= TRACE_VERSION)) throw new Error(`the file has the format ${visible(String(header.format))}: this page reads up to ${TRACE_VERSION}`);
  delete header.format;
  const reply = new Reply(header);
  lines.slice(1).forEach((line, at) => {
    const record = parsed(line);
    if (!isEvent(record)) throw new Error(`line ${at + 2} is not a trace event`);
    reply.push(record);
  });
  const cut = parsed(rest);
  if (lines.length && isEvent(cut)) reply.push(cut);
  return reply;
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function isEvent(record) {
  if (record === null || typeof record !== "object") return false;
  if (record.event === "candidate") return typeof record.text === "string";
  if (!Number.isInteger(record.index)) return false;
  if ("origin" in record) return (record.token_id === null || Number.isInteger(record.token_id)) && isMeasured(record.metrics);
  return ["branch", "rejected", "rewind", "fallback", "correction", "confidence", "end"].includes(record.event);
}

/** Whether entropy and varentropy are what some vocabulary gives, as `plot` has it. */
function isMeasured(metrics) {
  return [["entropy", 64], ["varentropy", 4096]].every(([name, greatest]) => {
    const value = metrics ? metrics[name] : null;
    return typeof value !== "number" || (value >= -0.001 && value <= greatest);
  });
}
