//! Options that change a task without a change of its plugin.

use anymc3d_host::task::{AdapterChoice, LossChange, Variant, ViewChange};
use anymc3d_manifest::{Background, Extent, LossKind, MaskFeature, ThroughPlane};
use clap::{Args, ValueEnum};

/// Ablations.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model (stored with the weights: run and eval build the same task)")]
pub(super) struct Ablation {
    /// Pooling over the slices, instead of the plugin's; label_queries is attention with a query per label, none reads what the mask says alone
    #[arg(long, value_name = "POOLING", value_parser = ["attention", "mean", "median", "max", "lstm", "transformer", "label_queries", "none"])]
    fusion: Option<String>,
    /// Give the head class tokens alone, as in the paper: a head that reads patch tokens does without them
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    class_tokens_only: bool,
    /// Segmentation decoder, instead of the plugin's: token decodes each patch alone, volume decodes in 3D
    #[arg(long, value_name = "NAME", value_parser = ["token", "volume"])]
    decoder: Option<String>,
    /// Adapter: none leaves the backbone frozen; lora is the plugin's low-rank adapter, or the paper's if it has none
    #[arg(long, value_enum)]
    adapter: Option<AdapterOption>,
    /// Rank of the adapter; the scale alpha / rank stays the same unless --alpha is given
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Alpha of the adapter
    #[arg(long, value_name = "A")]
    alpha: Option<f64>,
    /// Compute this many blocks of the frozen backbone, and its final norm [default: all]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// First adapted block; 0 also adapts the patch embedding
    #[arg(long, value_name = "N")]
    first_block: Option<usize>,
    /// Slices before and behind each slice, this many mm away, as its channels; 0: the manifest's windows
    #[arg(long, value_name = "MM")]
    adjacent_mm: Option<f64>,
    /// Slices farther apart than voxels: the average of what lies between them, or the plane itself, linear between two voxels
    #[arg(long, value_name = "HOW", value_parser = ["average", "linear"])]
    through_plane: Option<String>,
    /// Patches that show only background: keep them, or drop them before the first block
    #[arg(long, value_parser = ["keep", "drop"])]
    background: Option<String>,
    /// What the head is told of the mask: scalars, details, cover, with commas between, or none
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = ["scalars", "details", "cover", "none"])]
    mask_features: Option<Vec<String>>,
    /// Length of the region around mask or point, mm: one for a cube, or three, left to right, back to front, feet to head
    #[arg(long, value_name = "MM[,MM,MM]", value_delimiter = ',')]
    size_mm: Option<Vec<f64>>,
    /// Number of slices, instead of the manifest's
    #[arg(long, value_name = "N")]
    slices: Option<usize>,
    /// Rows and columns of a slice in pixels, instead of the manifest's; rounded up to multiples of the backbone's patches
    #[arg(long, value_name = "ROWS,COLUMNS", value_parser = pixels)]
    size: Option<Pixels>,
    /// Train on any backbone, whatever families and width the manifest names
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    any_backbone: bool,
    /// Loss, instead of the manifest's
    #[arg(long, value_enum)]
    loss: Option<LossOption>,
    /// Exponent of the focal loss
    #[arg(long, value_name = "G")]
    focal_gamma: Option<f64>,
    /// Weight of the positive class in the focal loss, 0 to 1
    #[arg(long, value_name = "A")]
    focal_alpha: Option<f64>,
    /// Loss weight of each label or class, separated by commas
    #[arg(long, value_name = "W", value_delimiter = ',')]
    class_weights: Option<Vec<f64>>,
}

/// `--size`
#[derive(Debug, Clone, Copy)]
struct Pixels([usize; 2]);

fn pixels(text: &str) -> Result<Pixels, String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    let both = numbers.and_then(|n| n.try_into().ok());
    both.map(Pixels).ok_or_else(|| "expected rows and columns, for example 224,224".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AdapterOption {
    None,
    Lora,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum LossOption {
    Focal,
    Bce,
    CrossEntropy,
    Mse,
}

impl Ablation {
    /// What the options say of the views.
    fn view(&self) -> Result<ViewChange, String> {
        if let Some(mm) = self.adjacent_mm.filter(|mm| !(mm.is_finite() && *mm >= 0.0)) {
            return Err(format!("--adjacent-mm {mm}: expected a length in mm, or 0"));
        }
        let features = self.mask_features.as_ref().map(|names| -> Result<Vec<MaskFeature>, String> {
            if names.len() > 1 && names.iter().any(|n| n == "none") {
                return Err("--mask-features: none stands alone".to_owned());
            }
            let of = |name: &String| match name.as_str() {
                "scalars" => Some(MaskFeature::Scalars),
                "cover" => Some(MaskFeature::Cover),
                "details" => Some(MaskFeature::Details),
                _ => None,
            };
            Ok(names.iter().filter_map(of).collect())
        });
        let size_mm = match self.size_mm.as_deref() {
            None => None,
            Some(&[mm]) => Some(Extent::Cube(mm)),
            Some(&[x, y, z]) => Some(Extent::Box([x, y, z])),
            Some(other) => return Err(format!("--size-mm: {} lengths, expected 1 or 3", other.len())),
        };
        let background = self.background.as_deref().map(|name| match name {
            "drop" => Background::Drop,
            _ => Background::Keep,
        });
        let through_plane = self.through_plane.as_deref().map(|name| match name {
            "linear" => ThroughPlane::Linear,
            _ => ThroughPlane::Average,
        });
        Ok(ViewChange {
            adjacent_mm: self.adjacent_mm,
            through_plane,
            mask_features: features.transpose()?,
            background,
            merge: None,
            size_mm,
            slices: self.slices,
            size: self.size.map(|s| s.0),
        })
    }

    /// What was asked for, for a task of `outputs` labels or classes.
    ///
    /// # Errors
    /// One line that names the option, what was found and what was expected.
    pub fn variant(&self, outputs: usize) -> Result<Variant, String> {
        let refuse = |option: &str, found: f64, expected: &str| {
            Err(format!("--{option} {found}: expected {expected}"))
        };
        for (option, value) in [("alpha", self.alpha), ("focal-gamma", self.focal_gamma)] {
            if let Some(v) = value.filter(|v| !(v.is_finite() && *v >= 0.0)) {
                return refuse(option, v, "a number of 0 or more");
            }
        }
        if let Some(v) = self.focal_alpha.filter(|v| !(0.0..=1.0).contains(v)) {
            return refuse("focal-alpha", v, "a share, 0 to 1");
        }
        if let Some(weights) = &self.class_weights {
            if weights.len() != outputs {
                let found = weights.len();
                return Err(format!("--class-weights: {found} weights, expected {outputs}, one per label"));
            }
            if let Some(v) = weights.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                return refuse("class-weights", *v, "numbers of 0 or more");
            }
        }
        Ok(Variant {
            view: self.view()?,
            adapter: self.adapter.map(|a| match a {
                AdapterOption::None => AdapterChoice::None,
                AdapterOption::Lora => AdapterChoice::Lora,
            }),
            rank: self.rank,
            alpha: self.alpha,
            depth: self.depth,
            first_block: self.first_block,
            pooling: self.fusion.clone(),
            class_tokens_only: self.class_tokens_only,
            any_backbone: self.any_backbone,
            decoder: self.decoder.clone(),
            loss: LossChange {
                kind: self.loss.map(|l| match l {
                    LossOption::Focal => LossKind::Focal,
                    LossOption::Bce => LossKind::Bce,
                    LossOption::CrossEntropy => LossKind::CrossEntropy,
                    LossOption::Mse => LossKind::Mse,
                }),
                gamma: self.focal_gamma,
                alpha: self.focal_alpha,
                class_weights: self.class_weights.clone(),
            },
        })
    }
}
