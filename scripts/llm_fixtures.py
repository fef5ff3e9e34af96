#!/usr/bin/env python3
"""Makes the tiny language models that the tests of air-serve's feature `llm` read, with what PyTorch computes of them.

    python3 -m venv VENV && VENV/bin/pip install torch transformers sentence-transformers
    VENV/bin/python scripts/llm_fixtures.py            # writes air-serve/tests/fixtures/llm/

Made with torch 2.x and transformers 5.x on a CPU, in 32 bits. The weights are random, from a fixed seed. Each folder is what transformers'
`save_pretrained` writes, and `expected.json`:

    texts       text, its tokens, the logits after each of the last tokens (one row a token), the 24 likeliest tokens from there on, one
                after another, and their text
    chat        messages and the prompt that the chat template makes of them
    embeddings  texts and their embeddings (bert alone)

minilm.json has the embeddings that sentence-transformers makes with all-MiniLM-L6-v2, if `scripts/fetch_data.py` has brought that.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

OUT = Path(__file__).resolve().parent.parent / "air-serve" / "tests" / "fixtures" / "llm"
TEXTS = ["Hello, world", "the quick brown fox jumps over the lazy dog, and the dog does not mind", "naïve café 你好 🙂 "]
CHAT = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi"}]
TEMPLATE = """{% for message in messages %}
{% if message['role'] not in ['system', 'user', 'assistant'] %}
{{ raise_exception('there is no role ' + message['role']) }}
{% endif %}
{{ '<|start|>' + message['role'] + '\\n' + message['content'].strip() + '<|end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}<|start|>assistant
{% endif %}"""
SMALL = dict(
    vocab_size=288,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    initializer_range=0.3,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=None,
)


def tokenizer():
    """Bytes, and the few pairs that these texts have most."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|end|>", "<|start|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(TEXTS * 3, trainer)
    made.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|bos|>", eos_token="<|end|>", chat_template=TEMPLATE, clean_up_tokenization_spaces=False
    )


def rounded(tensor):
    return [[round(x, 6) for x in row] for row in tensor.double().tolist()]


def causal(name, model, dtype, shard):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to(dtype).eval()
    model.generation_config.eos_token_id = [1]
    model.save_pretrained(folder, max_shard_size=shard)
    tok = tokenizer()
    tok.save_pretrained(folder)
    # What is stored has 16 bits; sums have 32, and so have the frequencies of positions.
    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    texts = []
    for text in TEXTS:
        ids = tok(text)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
            seq, greedy = list(ids), []
            for _ in range(24):
                greedy.append(int(model(torch.tensor([seq])).logits[0, -1].argmax()))
                seq.append(greedy[-1])
        text_of = tok.decode(greedy, skip_special_tokens=True)
        texts.append({"text": text, "tokens": ids, "logits": rounded(logits[-3:]), "greedy": greedy, "greedy_text": text_of})
    chat = tok.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    expected = {"texts": texts, "chat": {"messages": CHAT, "prompt": chat}}
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


def bert():
    folder = OUT / "bert"
    shutil.rmtree(folder, ignore_errors=True)
    model = BertModel(BertConfig(**{**SMALL, "pad_token_id": 0, "max_position_embeddings": 64}), add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    tok = tokenizer()
    tok.save_pretrained(folder)
    # What sentence-transformers keeps beside it.
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    embeddings = []
    for text in TEXTS:
        with torch.no_grad():
            state = model(torch.tensor([tok(text)["input_ids"]])).last_hidden_state[0]
        mean = state.mean(0, keepdim=True)
        embeddings += rounded(mean / mean.norm())
    (folder / "expected.json").write_text(json.dumps({"texts": TEXTS, "embeddings": embeddings}, ensure_ascii=False))


def minilm():
    folder = Path(os.environ.get("AIR_TEST_DATA") or OUT.parents[3] / "data") / "all-minilm-l6-v2"
    if not folder.exists():
        print(f"no {folder}: minilm.json stays as it is")
        return
    from sentence_transformers import SentenceTransformer

    texts = [
        "The cat sits on the mat.",
        "A dog is running through the park, chasing a red ball that somebody has thrown.",
        "Größe, naïve café, 你好",
    ]
    embeddings = SentenceTransformer(str(folder), device="cpu").encode(texts)
    values = [[round(float(x), 6) for x in row] for row in embeddings]
    (OUT / "minilm.json").write_text(json.dumps({"texts": texts, "embeddings": values}, ensure_ascii=False))


def main():
    torch.manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    llama = LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=llama3)
    causal("llama", LlamaForCausalLM(llama), torch.float32, "5GB")
    qwen2 = Qwen2Config(**SMALL, num_key_value_heads=4, tie_word_embeddings=False)
    model = Qwen2ForCausalLM(qwen2)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    causal("qwen2", model, torch.bfloat16, "20KB")
    qwen3 = Qwen3Config(**SMALL, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(qwen3)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    causal("qwen3", model, torch.float16, "5GB")
    bert()
    minilm()
    print(f"{OUT}: {sum(f.stat().st_size for f in OUT.rglob('*') if f.is_file()):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
