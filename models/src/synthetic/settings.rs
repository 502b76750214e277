//! The files around the graphs: a tokenizer with the published ids and as many tokens, and the configuration.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

use super::backbone::BackboneSizes;

/// Ids below this are special.
const SPECIALS: usize = 600;
/// Rows of the published table that belong to no token.
const UNUSED: usize = 1136;

const NAMED: [(usize, &str); 20] = [
    (0, "<|pad|>"),
    (1, "<|startoftext|>"),
    (2, "<|endoftext|>"),
    (6, "<|im_start|>"),
    (7, "<|im_end|>"),
    (8, "<|tool_list_start|>"),
    (9, "<|tool_list_end|>"),
    (10, "<|tool_call_start|>"),
    (11, "<|tool_call_end|>"),
    (12, "<|tool_response_start|>"),
    (13, "<|tool_response_end|>"),
    (128, "<|audio_start|>"),
    (129, "<|text_start|>"),
    (130, "<|text_end|>"),
    (133, "<|reserved_123|>"),
    (396, "<image>"),
    (497, "<|img_thumbnail|>"),
    (498, "<|image_start|>"),
    (499, "<|image_end|>"),
    (500, "<|image_split|>"),
];

pub(super) fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, format!("{value:#}\n")).map_err(Error::io(&path, "check that the folder may be written"))
}

/// Byte-level BPE: special tokens at the published ids, the 256 bytes, then a merge for every pair of bytes as far as
/// the vocabulary goes. Splits and merges cost what they cost in the published file.
pub(super) fn tokenizer(folder: &Path, vocabulary: usize) -> Result<()> {
    let special = |id: usize| match NAMED.iter().find(|(named, _)| *named == id) {
        Some((_, name)) => (*name).to_owned(),
        None if (397..497).contains(&id) => format!("<|img_row_{}_col_{}|>", (id - 397) / 10 + 1, (id - 397) % 10 + 1),
        None => format!("<|reserved_{id}|>"),
    };
    let alphabet = byte_alphabet();
    let tokens = vocabulary.saturating_sub(if vocabulary > 4 * UNUSED { UNUSED } else { 8 });
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for id in 0..SPECIALS {
        vocab.insert(special(id), id.into());
        added.push(json!({
            "id": id, "content": special(id), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    for (index, letter) in alphabet.iter().enumerate() {
        vocab.insert(letter.to_string(), (SPECIALS + index).into());
    }
    let pairs = alphabet.iter().flat_map(|first| alphabet.iter().map(move |second| (first, second)));
    let mut merges = Vec::new();
    for (first, second) in pairs.take(tokens.saturating_sub(SPECIALS + alphabet.len())) {
        vocab.insert(format!("{first}{second}"), (SPECIALS + alphabet.len() + merges.len()).into());
        merges.push(json!([first.to_string(), second.to_string()]));
    }
    let split = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+";
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let value = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false }, byte_level,
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<|startoftext|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<|startoftext|>": { "id": "<|startoftext|>", "ids": [1], "tokens": ["<|startoftext|>"] } },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, value.to_string()).map_err(Error::io(&path, "check that the folder may be written"))
}

/// The letter that GPT-2's byte-level alphabet has for each byte.
fn byte_alphabet() -> Vec<char> {
    let visible = |byte: u32| (33..=126).contains(&byte) || (161..=172).contains(&byte) || (174..=255).contains(&byte);
    let mut hidden = 256..;
    (0..256_u32).filter_map(|byte| char::from_u32(if visible(byte) { byte } else { hidden.next()? })).collect()
}

/// The backbone's part of `config.json`.
pub(super) fn backbone(sizes: &BackboneSizes) -> Value {
    let kinds = sizes.attention.iter().map(|attention| if *attention { "full_attention" } else { "conv" });
    json!({
        "model_type": "lfm2", "vocab_size": sizes.vocabulary, "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.attention.len(), "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads, "head_dim": sizes.head_dim, "layer_types": kinds.collect::<Vec<_>>(),
        "intermediate_size": sizes.feed_forward, "conv_L_cache": 3, "norm_eps": 1e-5,
        "max_position_embeddings": sizes.positions, "rope_theta": 1e6, "bos_token_id": 1, "eos_token_id": 7,
        "pad_token_id": 0,
    })
}

/// `genai_config.json`, of a text model whose decoder is `file`.
pub(super) fn genai(sizes: &BackboneSizes, file: &str) -> Value {
    let kinds = sizes.attention.iter().map(|attention| if *attention { "full_attention" } else { "conv" });
    json!({
        "model": {
            "type": if sizes.experts.is_some() { "lfm2_moe" } else { "lfm2" },
            "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0,
            "vocab_size": sizes.vocabulary, "context_length": sizes.positions,
            "decoder": {
                "session_options": { "provider_options": [] },
                "filename": file, "hidden_size": sizes.hidden, "head_size": sizes.head_dim,
                "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads,
                "num_hidden_layers": sizes.attention.len(), "layer_types": kinds.collect::<Vec<_>>(),
                "conv_cache_size": 2,
                "inputs": {
                    "input_ids": "input_ids", "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value",
                    "past_conv_names": "past.%d.conv",
                },
                "outputs": {
                    "logits": "logits", "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value", "present_conv_names": "present.%d.conv",
                },
            },
        },
        "search": { "do_sample": false, "max_length": sizes.positions, "past_present_share_buffer": true },
    })
}

/// `mel_config.json` as published.
pub(super) fn mel() -> Value {
    json!({
        "sample_rate": 16_000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 128, "fmin": 0,
        "fmax": 8_000, "preemph": 0.97, "log_zero_guard": 2.0_f64.powi(-24), "normalize": "per_feature",
        "mel_norm": "slaney",
    })
}
