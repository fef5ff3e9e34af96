#!/usr/bin/env python3
"""Decoding and reading of prompts beside PyTorch's `transformers` on the same CPU, of a small Llama with random weights.

    python3 -m venv VENV && VENV/bin/pip install torch transformers
    cargo build --release -p air-serve --features llm
    VENV/bin/python bench/serve/llm.py --server target/release/air-serve [--hidden 768 --layers 12] [--dtype bfloat16]

The sides take turns; the table has medians. Tokens a second of one text and of 16 at a time, greedy, 64 tokens after a prompt of 16; and prompts
of 512 tokens read, one at a time, each another one; and, for us alone, the same one again. `limit` is what the memory allows: the bytes of the weights that a step reads over the bandwidth that a copy of as many
numbers reaches here on as many threads.
"""

import argparse
import itertools
import json
import re
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DECODE, PROMPT, LONG = 64, 16, 512


def make(folder, args):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=args.hidden, intermediate_size=args.hidden * 8 // 3 // 64 * 64, num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64, num_key_value_heads=args.hidden // 64 // 3, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, args.dtype)).eval()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    # The embedding is the head too.
    return model, sum(p.numel() * p.element_size() for p in model.parameters())


def prompts(count, length):
    return [[(7 * i + 13 * j) % 256 for j in range(length)] for i in range(count)]


def torch_decode(model, count):
    ids = torch.tensor(prompts(count, PROMPT))
    with torch.inference_mode():
        out = model(ids, use_cache=True)
        start = time.perf_counter()
        for _ in range(DECODE - 1):
            ids = out.logits[:, -1:].argmax(-1)
            out = model(ids, past_key_values=out.past_key_values, use_cache=True)
    return count * (DECODE - 1) / (time.perf_counter() - start)


def torch_prefill(model):
    ids = torch.tensor(prompts(1, LONG))
    with torch.inference_mode():
        start = time.perf_counter()
        model(ids, use_cache=True, logits_to_keep=1)
    return LONG / (time.perf_counter() - start)


def post(url, prompt, tokens, times=None):
    body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logit_bias": {"1": -100}, "logprobs": 0,
            "stream": True}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        for line in response:
            if times is not None and b'"tokens":[' in line:
                times.append((time.perf_counter(), len(json.loads(line[6:])["choices"][0]["logprobs"]["tokens"])))


def our_decode(url, count):
    """Over HTTP, from when all have their first token to when the last has its last."""
    times = [[] for _ in range(count)]
    threads = [threading.Thread(target=post, args=(url, p, DECODE, t)) for p, t in zip(prompts(count, PROMPT), times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start, end = max(t[0][0] for t in times), max(t[-1][0] for t in times)
    return sum(n for t in times for at, n in t if at > start) / (end - start)


def our_prefill(url, first):
    """A prompt that begins with this token."""
    start = time.perf_counter()
    post(url, [first] + prompts(1, LONG)[0][1:], 1)
    return LONG / (time.perf_counter() - start)


def bandwidth(size, threads):
    """Bytes a second that summing as many numbers reaches."""
    torch.set_num_threads(threads)
    data = torch.ones(size // 4)
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        data.sum()
        taken.append(size / (time.perf_counter() - start))
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="the air-serve command, built with the feature llm")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "model")
        model, size = make(folder, args)
        torch.set_num_threads(args.threads)
        command = [args.server, "run", f"llm://{folder}", "--port", "0", "--set", f"llm.threads={args.threads}",
                   "--set", "llm.prefill_tokens=512"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://\S+", server.stdout.readline()).group() + "/completions"
            limit, tokens = bandwidth(size, args.threads), itertools.count(2)
            sides = {
                "decode 1": (lambda: our_decode(url, 1), lambda: torch_decode(model, 1), limit / size),
                "decode 16": (lambda: our_decode(url, 16), lambda: torch_decode(model, 16), 16 * limit / size),
                "prefill 512": (lambda: our_prefill(url, next(tokens)), lambda: torch_prefill(model), None),
                "the same again": (lambda: our_prefill(url, 2), None, None),
            }
            print(f"{size / 1e6:.0f} MB of weights ({args.dtype}), {args.threads} threads, {limit / 1e9:.1f} GB/s")
            for name, (ours, theirs, most) in sides.items():
                taken = [(ours(), theirs() if theirs else None) for _ in range(args.runs + 1)][1:]
                mine = statistics.median(one for one, _ in taken)
                share = f"  {mine / most:.2f} of the limit {most:.0f}" if most else ""
                if theirs:
                    peer = statistics.median(one for _, one in taken)
                    share = f"  torch {peer:8.1f}/s  ratio {mine / peer:5.2f}{share}"
                print(f"{name:14} air {mine:8.1f}/s{share}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
