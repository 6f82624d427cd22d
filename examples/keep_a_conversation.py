"""Keep a conversation: each turn decodes only what is new, and a step can be undone."""

from entropix_edge import Conversation, Engine, GenerationConfig

config = GenerationConfig(seed=1, n_predict=40)

with Engine.open("smollm2-135m") as engine:
    conversation = Conversation(engine, system="You are a helpful assistant.")
    for question in ("Why is the sky blue?", "And at night?", "Say that in five words."):
        with conversation.ask(question, config) as turn:
            print(f"> {question}")
            for event in turn:
                print(event.text, end="", flush=True)
        reply = conversation.turns[-1].reply
        print(f"\n  [{reply.prompt_tokens} tokens of prompt, {reply.cached_tokens} of them cached]\n")

    conversation.undo()
    print(f"After one undo there are {len(conversation.turns)} turns.")
