// A question and its reply as they stand on the page, with what can be done with them.

const ENDINGS = {
  length: "Cut at the limit of tokens.",
  context: "The context is full.",
  repetition: "Ended where it went round in a loop.",
  cancelled: "Stopped.",
};

const LEAST_SECONDS = 0.1; // tokens that come in one go, as those of a chosen candidate do, have no pace

/** Whether a reply was cut because nothing more fits. */
const filled = (node, props) => Boolean(node.used) && node.used >= props.n_ctx;

/** One turn; `last` where it is the one that is shown. */
function turnOf(page, node, last) {
  const pane = page.viewer.pane(node.reply);
  const notes = el("div", { class: "notes" }, notesOf(page, node));
  if (last) page.notes = notes; // a node must not hold its elements: they would hold every token's
  const edit = el("button", { type: "button", class: "edit", onclick: () => page.composer.edit(node), "aria-label": "Ask this differently", title: "Ask this differently" }, "✎");
  return el(
    "article",
    { "aria-label": node.kind === "text" ? "Text" : "Question and reply" },
    node.question === null ? null : el("div", { class: node.kind === "text" ? "question raw" : "question", role: "group", "aria-label": "Question" }, edit, node.question),
    candidatesOf(page.viewer, node.reply),
    pane.element,
    notes,
    last ? buttonsOf(page, node, pane) : null,
  );
}

/** What stands where nothing was asked yet. */
const welcome = () =>
  el(
    "div",
    { class: "welcome" },
    el("p", {}, "Ask, and see at every word how sure the model was: sure words are plain, the others are coloured and underlined by what was done there."),
    el("p", {}, "Click a word for its numbers and what else could stand there; click one of those to go on from it. A sign with two branches marks a fork: branches that were tried and one that was kept."),
  );

/** What is said below a reply. */
function notesOf(page, node) {
  const { reply } = node;
  const told = confidenceInWords(reply.confidence, reply);
  const parts = [told ? el("span", {}, el("b", {}, `Confidence: ${told.value}.`), ` ${told.meaning}`) : null];
  if (node.fault) parts.push(el("span", { class: "fault" }, `The reply ended: ${sentence(node.fault)}`));
  else if (reply.finish && reply.finish !== "stop") {
    const ending = filled(node, page.props) ? ENDINGS.context : ENDINGS[reply.finish];
    parts.push(el("span", {}, ending ?? `Ended by ${reply.finish}.`));
  }
  const pace = paceOf(node, page.props);
  if (pace) parts.push(el("span", {}, pace));
  return parts.filter(Boolean).map((part) => el("p", {}, part));
}

/** How many tokens came how fast, and how much of the context they leave. */
function paceOf({ reply, pace, used }, { n_ctx: room }) {
  if (!pace) return "";
  const { count, seconds } = pace;
  const speed = seconds > LEAST_SECONDS ? `, ${fixed((count - 1) / seconds, 0)} a second` : "";
  return `${plural(reply.tokens.length, "token")}${speed}${used ? ` · ${used} of ${room} tokens of the context` : ""}`;
}

function buttonsOf(page, node, pane) {
  const { reply } = node;
  const open = !page.whyNot(reply);
  const some = reply.tokens.length > 0;
  const button = (name, call, able = true) => el("button", { type: "button", onclick: call, disabled: !able || page.running !== null }, name);
  const buttons = el(
    "div",
    { class: "buttons" },
    button("Regenerate", () => page.regenerate(node), node.prompted),
    button("Continue", () => page.goOn(reply, reply.tokens.length, [], ""), open && some && reply.finish !== "stop" && !filled(node, page.props)),
    button("Edit", () => rewrite(), open && some),
    button("Copy", (event) => copy(reply.text, event.target), some),
    button("Export trace", () => saveTrace(reply), some),
  );
  const rewrite = () => {
    const close = () => page.show();
    const form = rewriting(reply, {
      go: (text) => page.rewrite(node, text),
      keep: (text) => page.rewrite(node, text, { keep: true }),
      close,
    });
    pane.element.replaceWith(form);
    buttons.hidden = true;
    page.toEnd();
    form.querySelector("textarea").focus();
  };
  return buttons;
}

/** Put a text on the clipboard, and say so on the button. */
async function copy(text, button) {
  let done = false;
  if (navigator.clipboard) {
    done = await navigator.clipboard.writeText(text).then(() => true, () => false);
  } else {
    done = copiedByHand(text); // the page comes from another machine, without TLS
  }
  clear(button, done ? "Copied" : "Not copied");
  setTimeout(() => clear(button, "Copy"), 1500);
}

function copiedByHand(text) {
  const holder = el("textarea", { class: "visually-hidden", value: text });
  document.body.append(holder);
  holder.select();
  const done = document.execCommand("copy");
  holder.remove();
  return done;
}

/** The turns of a trace, each the parent of the next: one that this page wrote has those that led to it. */
function turnsOf(reply, name) {
  const { messages, prompt } = reply.header;
  if (typeof prompt === "string") return [{ kind: "text", question: prompt, told: name, reply, prompted: true }];
  const texts = Array.isArray(messages) ? messages.filter((each) => each && typeof each.content === "string") : [];
  const system = texts.find((each) => each.role === "system")?.content;
  const said = texts.filter((each) => each.role !== "system").map((each) => each.content);
  const question = said.length % 2 ? said.pop() : null;
  const turns = [];
  for (let at = 0; at < said.length; at += 2) {
    const earlier = new Reply({ ...reply.header, preset: {} });
    earlier.pushEnd({ text: said[at + 1], finish_reason: "stop" });
    turns.push({ kind: "chat", question: said[at], told: quoted(said[at].slice(0, 40)), reply: earlier, system, prompted: false });
  }
  return [...turns, { kind: "chat", question, told: name, reply, system, prompted: question !== null }];
}

/** What a reply answered, so that it is gone on from with the very same prompt. */
const promptOf = ({ header }) => (typeof header.prompt === "string" ? { prompt: header.prompt } : { messages: header.messages });

/** The messages that a question is asked with. */
function messagesOf(parent, question, system) {
  const path = [];
  for (let node = parent; node; node = node.parent) path.unshift(node);
  const found = system ? [{ role: "system", content: system }] : [];
  for (const node of path) found.push({ role: "user", content: node.question ?? "" }, { role: "assistant", content: node.reply.text });
  return [...found, { role: "user", content: question }];
}
