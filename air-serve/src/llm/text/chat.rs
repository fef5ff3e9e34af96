//! Chat templates: Jinja, as transformers renders them.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value as Jinja, context};
use serde_json::Value;

use super::tokens::TokenizerKeys;
use crate::llm::LlmError;
use crate::llm::load::file;

/// What a template may do before it is ended; one message takes some hundreds.
const FUEL: u64 = 10_000_000;

/// A message of a conversation.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub role: String,
    pub content: String,
    pub name: Option<String>,
}

impl From<&Message> for Jinja {
    fn from(message: &Message) -> Jinja {
        let (role, content) = (&*message.role, &*message.content);
        if let Some(name) = &message.name {
            context! { role, content, name }
        } else {
            context! { role, content }
        }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of a directory, if it has one: `chat_template.jinja`, or in `tokenizer_config.json`.
    pub(crate) fn read(directory: &Path, keys: &TokenizerKeys) -> Result<Option<Self>, LlmError> {
        let path = directory.join("chat_template.jinja");
        let source = match file::bytes(&path, "") {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(LlmError::Missing { .. }) => keys.chat_template.as_ref().and_then(default_template),
            Err(error) => return Err(error),
        };
        let template = source.map(|source| {
            let special = |token: Option<&str>| token.unwrap_or_default().to_owned();
            ChatTemplate::new(source, special(keys.bos()), special(keys.eos()))
        });
        let bad = |error: Error| LlmError::Template { path: directory.to_owned(), reason: full(&error) };
        template.transpose().map_err(bad)
    }

    fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<(), Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.template_from_str(&source)?;
        Ok(ChatTemplate { source, environment, bos, eos })
    }

    /// The prompt for the answer to these messages.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, String> {
        let template = self.environment.template_from_str(&self.source).map_err(|error| full(&error))?;
        let messages: Vec<Jinja> = messages.iter().map(Jinja::from).collect();
        let (bos_token, eos_token) = (&*self.bos, &*self.eos);
        let rendered = template.render(context! {
            messages, bos_token, eos_token, add_generation_prompt => true, tools => (), documents => (),
        });
        rendered.map_err(|error| full(&error))
    }
}

/// A template, or the one named `default` of several.
fn default_template(value: &Value) -> Option<String> {
    let named = |list: &Vec<Value>| {
        list.iter()
            .find(|one| one["name"] == "default")
            .and_then(|one| one["template"].as_str().map(str::to_owned))
    };
    value.as_str().map(str::to_owned).or_else(|| value.as_array().and_then(named))
}

fn full(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("{error} (line {line})"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned(), name: None }
    }

    /// The shape of ChatML templates, with the methods of Python that they use.
    #[test]
    fn renders_what_transformers_would() {
        let source = "{{ bos_token }}{% for message in messages %}\n    {% if message['role'] not in ['user', 'system', 'assistant'] %}\n        \
                      {{ raise_exception('no role ' + message.role) }}\n    {% endif %}\n    {{- '<|' + message['role'] + '|>' + \
                      message['content'].strip() + eos_token }}\n{% endfor %}\n{% if add_generation_prompt %}<|assistant|>{% endif %}\n";
        let template = ChatTemplate::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned()).unwrap();
        let prompt = template.render(&[message("system", " be brief "), message("user", "hi")]).unwrap();
        assert_eq!(prompt, "<s><|system|>be brief</s>\n<|user|>hi</s>\n<|assistant|>");
        let error = template.render(&[message("dog", "wuff")]).unwrap_err();
        assert!(error.contains("no role dog"), "{error}");
    }

    #[test]
    fn a_template_that_does_not_end_is_ended_and_one_that_is_none_refused() {
        let source = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let template = ChatTemplate::new(source.to_owned(), String::new(), String::new()).unwrap();
        assert!(template.render(&[]).unwrap_err().contains("fuel"));
        assert!(ChatTemplate::new("{% if %}".to_owned(), String::new(), String::new()).is_err());
    }
}
