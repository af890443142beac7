//! Reads and checks `plugin.toml` while an author's crate compiles.

use proc_macro::{Literal, TokenStream, TokenTree};

/// `checked_manifest!("plugin.toml")`: the manifest's text as a string literal, or a compile error that says
/// what is wrong with it.
#[proc_macro]
pub fn checked_manifest(input: TokenStream) -> TokenStream {
    match read(input) {
        // include_str! beside the literal makes cargo rebuild when the file changes.
        Ok((path, text)) => {
            let (path, text) = (Literal::string(&path), Literal::string(&text));
            let code = format!("{{ const _: &str = include_str!({path}); {text} }}");
            code.parse().unwrap_or_else(|_| error("the manifest cannot be written as a literal"))
        }
        Err(message) => error(&message),
    }
}

fn error(message: &str) -> TokenStream {
    let literal = Literal::string(message);
    format!("{{ ::core::compile_error!({literal}); \"\" }}").parse().unwrap_or_default()
}

fn read(input: TokenStream) -> Result<(String, String), String> {
    let mut tokens: Vec<TokenTree> = input.into_iter().collect();
    // A macro_rules literal arrives inside an invisible group.
    while let [TokenTree::Group(group)] = &tokens[..] {
        tokens = group.stream().into_iter().collect();
    }
    let [TokenTree::Literal(literal)] = &tokens[..] else {
        return Err("expected the manifest's path, for example \"plugin.toml\"".to_owned());
    };
    let quoted = literal.to_string();
    let name = quoted.trim_matches('"');
    let folder = std::env::var("CARGO_MANIFEST_DIR").map_err(|_| "not built by cargo".to_owned())?;
    let path = std::path::Path::new(&folder).join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let wrong = |e: String| format!("{}: {e}", path.display());
    let manifest = anymc3d_manifest::Manifest::parse_strict(&text).map_err(|e| wrong(e.to_string()))?;
    let crate_version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    same_version(&manifest.plugin.version.to_string(), &crate_version).map_err(wrong)?;
    Ok((path.display().to_string(), text))
}

/// A plugin has one version: weights, packages and results name the manifest's, Cargo the crate's.
fn same_version(manifest: &str, of_crate: &str) -> Result<(), String> {
    if manifest == of_crate {
        return Ok(());
    }
    Err(format!(
        "`plugin.version`: {manifest}; expected {of_crate}, the version in Cargo.toml: change one of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::same_version;

    #[test]
    fn versions_of_the_manifest_and_of_the_crate_that_differ_are_both_named() {
        assert_eq!(same_version("0.1.0", "0.1.0"), Ok(()));
        let message = same_version("0.2.0", "0.1.0").unwrap_err();
        assert!(message.contains("0.2.0; expected 0.1.0, the version in Cargo.toml"), "{message}");
    }
}
