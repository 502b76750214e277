//! Decoder graphs: layout A with convolution states of three columns in plain operators, layout C with two columns in
//! `CausalConvWithState` (model contract, section 2).

use crate::error::Result;
use crate::folder::Layout;
use crate::onnx::{ElementType, Size, Value};

use super::canvas::{BATCH, BLOCK, Canvas, F32, I64, SEQUENCE, Stored};

/// Columns of a convolution state in layout A; layout C leaves out the one that is never read.
const STATE: usize = 3;

/// The sizes of a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneSizes {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside a feed-forward network.
    pub feed_forward: usize,
    /// For each layer, whether it is attention rather than a convolution.
    pub attention: Vec<bool>,
    /// Rows of the vocabulary head.
    pub vocabulary: usize,
    /// Rows of the rotary tables.
    pub positions: usize,
    /// The experts of a mixture.
    pub experts: Option<Experts>,
}

/// Experts in the place of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many of them a position asks.
    pub asked: usize,
    /// Width inside one.
    pub inner: usize,
    /// Layers before the first that has them.
    pub from: usize,
}

/// What a decoder graph is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Ids,
    Rows,
}

/// The form of a decoder graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub layout: Layout,
    pub feed: Feed,
    /// How the vocabulary head is stored, which published folders decide apart.
    pub head: Stored,
    /// Whether the hidden states are an output, as speech needs.
    pub gives_hidden: bool,
}

/// What every layer needs to know.
struct Around<'a> {
    sizes: &'a BackboneSizes,
    layout: Layout,
    lengths: [String; 2],
}

/// Draws a decoder.
pub(super) fn draw(canvas: &mut Canvas, sizes: &BackboneSizes, form: Form) -> Result<()> {
    let hidden = sizes.hidden;
    let mut x = match form.feed {
        Feed::Rows => canvas.graph.input("inputs_embeds", F32, &[BATCH, SEQUENCE, Size::Is(hidden)]),
        Feed::Ids => canvas.graph.input("input_ids", I64, &[BATCH, SEQUENCE]),
    };
    let around = Around { sizes, layout: form.layout, lengths: lengths(canvas) };
    canvas.rotary(sizes.positions, sizes.head_dim, ["cos_cache", "sin_cache"])?;
    let head = match (form.feed, form.head) {
        (Feed::Rows, _) | (Feed::Ids, Stored::Float) => None,
        (Feed::Ids, stored) => Some(canvas.packed(stored, [hidden, sizes.vocabulary], "lm_head")?),
    };
    if form.feed == Feed::Ids {
        x = embedded(canvas, sizes, form.head, head.as_ref())?;
    }

    let mut presents = Vec::new();
    let mut normed = canvas.rms_norm(&x, hidden, "layers.0.operator_norm")?;
    for (index, attention) in sizes.attention.iter().enumerate() {
        let name = format!("layers.{index}");
        let mixed = match attention {
            true => self::attention(canvas, &around, &normed, index, &mut presents)?,
            false => convolution(canvas, &around, &normed, index, &mut presents)?,
        };
        [normed, x] = joined(canvas, form.layout, &x, &mixed, hidden, &format!("{name}.ffn_norm"))?;
        let forward = match sizes.experts {
            Some(experts) if index >= experts.from => {
                self::experts(canvas, hidden, experts, &normed, &format!("{name}.moe"))?
            }
            _ => canvas.swiglu(&normed, [hidden, sizes.feed_forward], &format!("{name}.feed_forward"))?,
        };
        let next = match index + 1 == sizes.attention.len() {
            // The last norm is fused with its sum in both layouts.
            true => {
                [normed, _] = canvas.skip_norm(&x, &forward, hidden, "hidden_states")?;
                break;
            }
            false => format!("layers.{}.operator_norm", index + 1),
        };
        [normed, x] = joined(canvas, form.layout, &x, &forward, hidden, &next)?;
    }
    match head {
        Some([values, scales]) => {
            let bits = if form.head == Stored::Eight { 8 } else { 4 };
            canvas.matmul_n_bits(&normed, [&values, &scales], [hidden, sizes.vocabulary], bits, "logits")
        }
        None => canvas.linear_as(form.head, &normed, [hidden, sizes.vocabulary], "lm_head", "logits")?,
    };

    canvas.graph.output("logits", F32, &[BATCH, SEQUENCE, Size::Is(sizes.vocabulary)]);
    for (name, dims) in presents {
        canvas.graph.output(&name, F32, &dims);
    }
    if form.gives_hidden {
        canvas.graph.output("hidden_states", F32, &[BATCH, SEQUENCE, Size::Is(hidden)]);
    }
    Ok(())
}

/// `seqlens_k` and the total length, from the mask.
fn lengths(canvas: &mut Canvas) -> [String; 2] {
    let mask = canvas.graph.input("attention_mask", I64, &[BATCH, Size::Any("total_sequence_length")]);
    let (axis, one) = (canvas.graph.ints(&[1]), canvas.graph.int(1));
    let graph = &mut canvas.graph;
    let real = graph.node("ReduceSum", &[&mask, &axis], "mask/real", &[("keepdims", Value::Int(0))]);
    let last = graph.node("Sub", &[&real, &one], "mask/last", &[]);
    let to = [("to", Value::Int(6))];
    let before = graph.node("Cast", &[&last], "mask/seqlens_k", &to);
    let shape = graph.node("Shape", &[&mask], "mask/shape", &[]);
    let width = graph.node("Gather", &[&shape, &one], "mask/width", &[]);
    [before, graph.node("Cast", &[&width], "mask/total", &to)]
}

/// Token rows; a quantised table is the head's.
fn embedded(canvas: &mut Canvas, sizes: &BackboneSizes, stored: Stored, head: Option<&[String; 2]>) -> Result<String> {
    let [vocabulary, hidden] = [sizes.vocabulary, sizes.hidden];
    let Some([values, scales]) = head else {
        let table = canvas.floats("embed_tokens.weight", &[vocabulary, hidden], (hidden as f32).sqrt().recip())?;
        return Ok(canvas.graph.node("Gather", &[&table, "input_ids"], "embed_tokens", &[("axis", Value::Int(0))]));
    };
    let bits = if stored == Stored::Eight { 8 } else { 4 };
    let rows = canvas.reshape(values, &[vocabulary as i64, (hidden * bits / 8) as i64], "embed_tokens/rows");
    let attributes = [
        ("bits", Value::Int(bits as i64)),
        ("block_size", Value::Int(BLOCK as i64)),
        ("gather_axis", Value::Int(0)),
        ("quantize_axis", Value::Int(1)),
    ];
    Ok(canvas.graph.node("GatherBlockQuantized", &[&rows, "input_ids", scales], "embed_tokens", &attributes))
}

/// The sum of `x` and `more`, and its norm `name`, as the layout writes them: `[norm, sum]`.
fn joined(canvas: &mut Canvas, layout: Layout, x: &str, more: &str, hidden: usize, name: &str) -> Result<[String; 2]> {
    if layout == Layout::C {
        return canvas.skip_norm(x, more, hidden, name);
    }
    let sum = canvas.graph.node("Add", &[x, more], &format!("{name}/sum"), &[]);
    Ok([canvas.rms_norm(&sum, hidden, name)?, sum])
}

type Presents = Vec<(String, Vec<Size>)>;

fn convolution(
    canvas: &mut Canvas,
    around: &Around<'_>,
    x: &str,
    index: usize,
    presents: &mut Presents,
) -> Result<String> {
    let (hidden, name) = (around.sizes.hidden, format!("layers.{index}.conv"));
    let projected = canvas.linear(x, [hidden, 3 * hidden], &format!("{name}.in_proj"))?;
    let channels = canvas.transpose(&projected, &[0, 2, 1], &format!("{name}/channels"));
    let [b, c, inner] = ["b", "c", "x"].map(|part| format!("{name}/{part}"));
    let thirds = canvas.graph.ints(&[hidden as i64; 3]);
    canvas.graph.node_of_many("Split", &[&channels, &thirds], &[&b, &c, &inner], &[("axis", Value::Int(1))]);
    let gated = canvas.graph.node("Mul", &[&b, &inner], &format!("{name}/bx"), &[]);
    let weight = canvas.floats(&format!("{name}.conv.weight"), &[hidden, 1, 3], 0.577)?;
    let mixed = format!("{name}/conv");
    match around.layout {
        Layout::C => {
            let dims = vec![BATCH, Size::Is(hidden), Size::Is(STATE - 1)];
            let past = canvas.graph.input(&format!("past.{index}.conv"), F32, &dims);
            let present = format!("present.{index}.conv");
            canvas.graph.node_of_many(
                "CausalConvWithState",
                &[&gated, &weight, "", &past],
                &[&mixed, &present],
                &[("ndim", Value::Int(1)), ("activation", Value::Text("none")), ("state_window", Value::Int(0))],
            );
            presents.push((present, dims));
        }
        Layout::A | Layout::B => {
            let dims = vec![BATCH, Size::Is(hidden), Size::Is(STATE)];
            let past = canvas.graph.input(&format!("past_conv.{index}"), F32, &dims);
            let present = format!("present_conv.{index}");
            let whole =
                canvas.graph.node("Concat", &[&past, &gated], &format!("{name}/whole"), &[("axis", Value::Int(2))]);
            canvas.slice(&whole, [-(STATE as i64), i64::from(i32::MAX)], 2, &present);
            let window = canvas.slice(&whole, [1, i64::from(i32::MAX)], 2, &format!("{name}/window"));
            canvas.graph.node(
                "Conv",
                &[&window, &weight],
                &mixed,
                &[
                    ("group", Value::Int(hidden as i64)),
                    ("kernel_shape", Value::Ints(&[3])),
                    ("pads", Value::Ints(&[0, 0])),
                ],
            );
            presents.push((present, dims));
        }
    }
    let out = canvas.graph.node("Mul", &[&c, &mixed], &format!("{name}/cy"), &[]);
    let rows = canvas.transpose(&out, &[0, 2, 1], &format!("{name}/rows"));
    canvas.linear(&rows, [hidden, hidden], &format!("{name}.out_proj"))
}

fn attention(
    canvas: &mut Canvas,
    around: &Around<'_>,
    x: &str,
    index: usize,
    presents: &mut Presents,
) -> Result<String> {
    let (sizes, name) = (around.sizes, format!("layers.{index}.self_attn"));
    let [queries, keys] = [sizes.heads, sizes.kv_heads].map(|heads| heads * sizes.head_dim);
    let [q, k, v] = match around.layout {
        // The builder of layout C packs the three projections into one.
        Layout::C => {
            let packed = canvas.linear(x, [sizes.hidden, queries + 2 * keys], &format!("{name}.qkv_proj"))?;
            let parts = ["q", "k", "v"].map(|part| format!("{name}/{part}"));
            let lengths = canvas.graph.ints(&[queries as i64, keys as i64, keys as i64]);
            let names = [parts[0].as_str(), &parts[1], &parts[2]];
            canvas.graph.node_of_many("Split", &[&packed, &lengths], &names, &[("axis", Value::Int(-1))]);
            parts
        }
        Layout::A | Layout::B => [
            canvas.linear(x, [sizes.hidden, queries], &format!("{name}.q_proj"))?,
            canvas.linear(x, [sizes.hidden, keys], &format!("{name}.k_proj"))?,
            canvas.linear(x, [sizes.hidden, keys], &format!("{name}.v_proj"))?,
        ],
    };
    let q = canvas.head_norm(&q, sizes.heads, sizes.head_dim, &format!("{name}.q_layernorm"))?;
    let k = canvas.head_norm(&k, sizes.kv_heads, sizes.head_dim, &format!("{name}.k_layernorm"))?;
    let dims = |length| vec![BATCH, Size::Is(sizes.kv_heads), Size::Any(length), Size::Is(sizes.head_dim)];
    let past = ["key", "value"]
        .map(|part| canvas.graph.input(&format!("past_key_values.{index}.{part}"), F32, &dims("past_sequence_length")));
    let present = ["key", "value"].map(|part| format!("present.{index}.{part}"));
    let mixed = format!("{name}/attention");
    canvas.graph.node_of_many(
        "GroupQueryAttention",
        &[&q, &k, &v, &past[0], &past[1], &around.lengths[0], &around.lengths[1], "cos_cache", "sin_cache"],
        &[&mixed, &present[0], &present[1]],
        &[
            ("num_heads", Value::Int(sizes.heads as i64)),
            ("kv_num_heads", Value::Int(sizes.kv_heads as i64)),
            ("do_rotary", Value::Int(1)),
            ("rotary_interleaved", Value::Int(0)),
            ("scale", Value::Float((sizes.head_dim as f32).sqrt().recip())),
        ],
    );
    presents.extend(present.map(|name| (name, dims("total_sequence_length"))));
    canvas.linear(&mixed, [queries, sizes.hidden], &format!("{name}.out_proj"))
}

/// A router with sigmoid shares and a bias that chooses but does not weigh, in front of `QMoE`, which wants the
/// logarithms of the shares.
fn experts(canvas: &mut Canvas, hidden: usize, experts: Experts, x: &str, name: &str) -> Result<String> {
    let Experts { count, asked, inner, .. } = experts;
    let router =
        canvas.linear_as(Stored::Float, x, [hidden, count], &format!("{name}.router"), &format!("{name}.router"))?;
    let flat = canvas.reshape(&router, &[-1, count as i64], &format!("{name}/flat"));
    let bias = canvas.floats(&format!("{name}.expert_bias"), &[count], 0.01)?;
    let (wanted, last) = (canvas.graph.ints(&[asked as i64]), canvas.graph.ints(&[-1]));
    let least = canvas.graph.floats("least_share", &[], [1e-30]);
    let never = canvas.graph.floats("never_chosen", &[], [-1e4]);
    let floor = canvas.graph.floats("floor", &[], [1e-6]);
    let graph = &mut canvas.graph;
    let part = |part: &str| format!("{name}/{part}");
    let shares = graph.node("Sigmoid", &[&flat], &part("shares"), &[]);
    let biased = graph.node("Add", &[&shares, &bias], &part("biased"), &[]);
    let (best, chosen) = (part("best"), part("chosen"));
    graph.node_of_many("TopK", &[&biased, &wanted], &[&best, &chosen], &[("axis", Value::Int(-1))]);
    let own = graph.node("GatherElements", &[&shares, &chosen], &part("own"), &[("axis", Value::Int(1))]);
    let sum = graph.node("ReduceSum", &[&own, &last], &part("sum"), &[("keepdims", Value::Int(1))]);
    let more = graph.node("Add", &[&sum, &floor], &part("more"), &[]);
    let scale = graph.node("Div", &[&sum, &more], &part("scale"), &[]);
    let clipped = graph.node("Max", &[&own, &least], &part("clipped"), &[]);
    let logarithms = graph.node("Log", &[&clipped], &part("logarithms"), &[]);
    let shape = graph.node("Shape", &[&shares], &part("shape"), &[]);
    let nobody = graph.node("Expand", &[&never, &shape], &part("nobody"), &[]);
    let asked_of =
        graph.node("ScatterElements", &[&nobody, &chosen, &logarithms], &part("asked"), &[("axis", Value::Int(1))]);
    let [up, up_scales] = expert_weights(canvas, [count, 2 * inner, hidden], &format!("{name}.gate_up_proj"))?;
    let [down, down_scales] = expert_weights(canvas, [count, hidden, inner], &format!("{name}.down_proj"))?;
    let up_bias = canvas.floats(&format!("{name}.gate_up_proj.bias"), &[count, 2 * inner], 0.01)?;
    let down_bias = canvas.floats(&format!("{name}.down_proj.bias"), &[count, hidden], 0.01)?;
    let mixed = canvas.graph.node(
        "QMoE",
        &[x, &asked_of, &up, &up_scales, &up_bias, &down, &down_scales, &down_bias],
        &part("mixed"),
        &[
            ("activation_alpha", Value::Float(1.0)),
            ("activation_beta", Value::Float(0.0)),
            ("activation_type", Value::Text("swiglu")),
            ("expert_weight_bits", Value::Int(4)),
            ("k", Value::Int(asked as i64)),
            ("normalize_routing_weights", Value::Int(1)),
            ("swiglu_fusion", Value::Int(1)),
            ("use_sparse_mixer", Value::Int(0)),
            ("block_size", Value::Int(BLOCK as i64)),
        ],
    );
    let shape = canvas.graph.node("Shape", &[&router], &part("router_shape"), &[]);
    let front = canvas.slice(&shape, [0, -1], 0, &part("front"));
    let one = canvas.graph.ints(&[1]);
    let shape = canvas.graph.node("Concat", &[&front, &one], &part("scale_shape"), &[("axis", Value::Int(0))]);
    let scale = canvas.graph.node("Reshape", &[&scale, &shape], &part("scale_rows"), &[]);
    Ok(canvas.graph.node("Mul", &[&mixed, &scale], &part("out"), &[]))
}

/// 4-bit blocks of `count` matrices of `outer` rows, as `QMoE` takes them.
fn expert_weights(canvas: &mut Canvas, [count, outer, inner]: [usize; 3], name: &str) -> Result<[String; 2]> {
    let values = canvas.weights.bytes(count * outer * inner / 2)?;
    let scales = canvas.weights.positive(count * outer * inner / BLOCK, (inner as f32).sqrt().recip() / 4.61)?;
    let dims = [count, outer, inner / BLOCK];
    Ok([
        canvas.graph.external(&format!("{name}.qweight"), ElementType::BYTES, &[count, outer, inner / 2], &values),
        canvas.graph.external(&format!("{name}.scales"), F32, &dims, &scales),
    ])
}
