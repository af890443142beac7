//! Stands in for the crate `tokenizers`, of which candle-core 0.11 makes text tokenizers from GGUF files.
//!
//! This project reads no GGUF file and no text. The real crate brings 70 others, which every newcomer would build; the
//! workspace's `[patch.crates-io]` puts this one in its place. It has the names that candle-core's
//! `quantized/tokenizer.rs` uses, and where something would be computed it answers with [`Absent`]. Nothing in the host
//! calls it: the linker drops candle's functions.

use std::fmt;

/// Text tokenizers are not part of this build.
#[derive(Debug, Clone, Copy)]
pub struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text tokenizers are not part of this build")
    }
}

impl std::error::Error for Absent {}

/// A step of a pipeline of the name that candle uses.
macro_rules! step {
    ($name:ident, $wrapper:ident) => {
        #[derive(Debug, Clone, Default)]
        pub struct $name;

        impl From<$name> for $wrapper {
            fn from(_: $name) -> Self {
                Self::Absent
            }
        }
    };
}

pub mod decoders {
    #[derive(Debug, Clone)]
    pub enum DecoderWrapper {
        Absent,
    }
    pub mod byte_level {
        use super::DecoderWrapper;
        step!(ByteLevel, DecoderWrapper);
        impl ByteLevel {
            pub fn new(_: bool, _: bool, _: bool) -> Self {
                Self
            }
        }
    }
}

pub mod normalizers {
    #[derive(Debug, Clone)]
    pub enum NormalizerWrapper {
        Absent,
    }
    pub mod unicode {
        use super::NormalizerWrapper;
        step!(NFC, NormalizerWrapper);
    }
}

pub mod pre_tokenizers {
    #[derive(Debug, Clone)]
    pub enum PreTokenizerWrapper {
        Absent,
    }
    pub mod byte_level {
        use super::PreTokenizerWrapper;
        step!(ByteLevel, PreTokenizerWrapper);
        impl ByteLevel {
            pub fn new(_: bool, _: bool, _: bool) -> Self {
                Self
            }
        }
    }
    pub mod sequence {
        use super::PreTokenizerWrapper;
        step!(Sequence, PreTokenizerWrapper);
        impl Sequence {
            pub fn new(_: Vec<PreTokenizerWrapper>) -> Self {
                Self
            }
        }
    }
    pub mod split {
        use super::PreTokenizerWrapper;
        pub enum SplitPattern {
            Regex(String),
        }
        step!(Split, PreTokenizerWrapper);
        impl Split {
            pub fn new(
                _: SplitPattern,
                _: crate::tokenizer::SplitDelimiterBehavior,
                _: bool,
            ) -> Result<Self, crate::Absent> {
                Err(crate::Absent)
            }
        }
    }
}

pub mod processors {
    #[derive(Debug, Clone)]
    pub enum PostProcessorWrapper {
        Absent,
        Template(template::TemplateProcessing),
    }
    pub mod byte_level {
        use super::PostProcessorWrapper;
        step!(ByteLevel, PostProcessorWrapper);
        impl ByteLevel {
            pub fn new(_: bool, _: bool, _: bool) -> Self {
                Self
            }
        }
    }
    pub mod sequence {
        use super::PostProcessorWrapper;
        step!(Sequence, PostProcessorWrapper);
        impl Sequence {
            pub fn new(_: Vec<PostProcessorWrapper>) -> Self {
                Self
            }
        }
    }
    pub mod template {
        use crate::Absent;
        #[derive(Debug, Clone, Default)]
        pub struct TemplateProcessing;
        impl TemplateProcessing {
            pub fn builder() -> Self {
                Self
            }
            pub fn try_single(self, _: Vec<String>) -> Result<Self, Absent> {
                Err(Absent)
            }
            pub fn try_pair(self, _: Vec<String>) -> Result<Self, Absent> {
                Err(Absent)
            }
            pub fn special_tokens(self, _: Vec<(String, u32)>) -> Self {
                self
            }
            pub fn build(self) -> Result<Self, Absent> {
                Err(Absent)
            }
        }
    }
}

pub mod models {
    pub mod bpe {
        use crate::Absent;
        pub type Vocab = std::collections::HashMap<String, u32>;
        #[derive(Debug, Clone, Default)]
        pub struct BPE;
        impl BPE {
            pub fn builder() -> Self {
                Self
            }
            pub fn vocab_and_merges(self, _: Vocab, _: Vec<(String, String)>) -> Self {
                self
            }
            pub fn unk_token(self, _: String) -> Self {
                self
            }
            pub fn byte_fallback(self, _: bool) -> Self {
                self
            }
            pub fn ignore_merges(self, _: bool) -> Self {
                self
            }
            pub fn build(self) -> Result<Self, Absent> {
                Err(Absent)
            }
        }
    }
}

pub mod tokenizer {
    pub enum SplitDelimiterBehavior {
        Isolated,
    }
}

#[derive(Debug, Clone)]
pub struct AddedToken;

impl AddedToken {
    pub fn from(_: String, _: bool) -> Self {
        Self
    }
}

#[derive(Debug, Clone, Default)]
pub struct Tokenizer;

impl Tokenizer {
    pub fn new(_: models::bpe::BPE) -> Self {
        Self
    }
    pub fn with_normalizer(
        &mut self,
        _: Option<normalizers::NormalizerWrapper>,
    ) -> Result<&mut Self, Absent> {
        Err(Absent)
    }
    pub fn with_pre_tokenizer(&mut self, _: Option<pre_tokenizers::PreTokenizerWrapper>) -> &mut Self {
        self
    }
    pub fn with_decoder(&mut self, _: Option<decoders::DecoderWrapper>) -> &mut Self {
        self
    }
    pub fn with_post_processor(&mut self, _: Option<processors::PostProcessorWrapper>) -> &mut Self {
        self
    }
    pub fn add_special_tokens(&mut self, _: Vec<AddedToken>) -> Result<usize, Absent> {
        Err(Absent)
    }
}
