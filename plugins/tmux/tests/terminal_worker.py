"""A program that is spoken to in a terminal, as agents are: it thinks a while, then answers and prompts again."""

import time

print("worker ready\n> ", end="", flush=True)
while (line := input()) != "quit":
    for number in range(3):
        time.sleep(0.15)
        print(f"thinking {number}", flush=True)
    print(f"answer: {line.upper()}\n> ", end="", flush=True)
raise SystemExit(7)
