//! The locked profile: one Rhai engine for all expressions, raw, with our functions only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use rhai::{AST, Engine, ParseError, ParseErrorType, Token};
use rust_decimal::Decimal;

use super::functions;

/// What a keyword could start that the profile does not have.
const DISABLED: [&str; 26] = [
    "eval",
    "fn",
    "loop",
    "while",
    "do",
    "until",
    "for",
    "import",
    "export",
    "print",
    "debug",
    "let",
    "const",
    "return",
    "throw",
    "try",
    "catch",
    "break",
    "continue",
    "Fn",
    "call",
    "curry",
    "this",
    "global",
    "type_of",
    "is_def_var",
];

/// Integer literals become decimals, so that `10 / 4` is `2.5`; only right after a bracket they stay what an index needs.
static AFTER_BRACKET: AtomicBool = AtomicBool::new(false);

/// Compiling uses the flag above: one at a time.
static COMPILING: Mutex<()> = Mutex::new(());

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut engine = Engine::new_raw();
    engine
        .set_allow_looping(false)
        .set_allow_if_expression(false)
        .set_allow_switch_expression(false)
        .set_allow_statement_expression(false)
        .set_allow_anonymous_fn(false)
        // Off, so that our refusals of comparisons between kinds come before Rhai's silent `false`.
        .set_fast_operators(false)
        .set_fail_on_invalid_map_property(true)
        .set_max_operations(100_000)
        .set_max_expr_depths(32, 32)
        .set_max_string_size(1 << 20)
        .set_max_array_size(100_000)
        .set_max_map_size(10_000);
    for symbol in DISABLED {
        engine.disable_symbol(symbol);
    }
    #[expect(
        deprecated,
        reason = "marked volatile, not going away; the version is pinned by the lock file and tests hold it"
    )]
    engine.on_parse_token(|token, _, _| {
        let index = AFTER_BRACKET.swap(matches!(token, Token::LeftBracket | Token::QuestionBracket), Ordering::Relaxed);
        match token {
            Token::IntegerConstant(int) if !index => {
                Token::DecimalConstant(Box::new((Decimal::from(int), int.to_string().into())))
            }
            token => token,
        }
    });
    functions::register(&mut engine);
    engine
});

/// The one engine.
pub(super) fn shared() -> &'static Engine {
    &ENGINE
}

/// Compiles one expression.
pub(super) fn compile(text: &str) -> Result<AST, ParseError> {
    // A poisoned lock means that a compile panicked; the flag is set anew below, so going on is sound.
    let _one = COMPILING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    AFTER_BRACKET.store(false, Ordering::Relaxed);
    ENGINE.compile_expression(text)
}

/// Why a text does not compile, for a person.
pub(super) fn parse_message(error: &ParseError) -> String {
    match error.err_type() {
        ParseErrorType::UnexpectedEOF => "the expression ends too early".to_owned(),
        ParseErrorType::MissingToken(token, _) if token == ";" => {
            "two values stand beside each other: an operator such as `&&` or `==` is missing".to_owned()
        }
        ParseErrorType::MissingToken(token, _) => format!("`{token}` is missing"),
        ParseErrorType::Reserved(word) => format!("`{word}` is not part of expressions here"),
        other => {
            let text = other.to_string();
            if text.contains("reserved keyword") || text.contains("reserved symbol") {
                return format!(
                    "{} here: expressions have no statements, loops or functions",
                    text.trim_end_matches('.')
                );
            }
            text
        }
    }
}
