"""How fast this machine is with a model, and what the loop costs beside raw llama.cpp."""
