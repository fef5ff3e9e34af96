//! Serve a model that answers with a stream: all its requests advance together, one step after another.
//!
//!     cargo run --release -p air-serve --example serve_stream
//!
//! The model is a Markov chain over the words of a sentence, which stands for one that predicts the next token.

use std::io::BufRead as _;

use air_core::BoxError;
use air_serve::{App, Deployment, Generate, Items, Running, run};
use serde::Deserialize;

const TEXT: &str = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog";

#[derive(Deserialize)]
struct Prompt {
    word: String,
    max_words: usize,
}

/// What is kept of a request while it runs.
struct Sequence {
    last: String,
    left: usize,
}

struct Chain {
    words: Vec<&'static str>,
}

impl Generate for Chain {
    type In = Prompt;
    type Item = String;
    type Sequence = Sequence;

    fn begin(&mut self, prompt: Prompt) -> Result<Sequence, BoxError> {
        if !self.words.contains(&prompt.word.as_str()) {
            return Err(format!("the word {:?} is unknown", prompt.word).into());
        }
        Ok(Sequence { last: prompt.word, left: prompt.max_words })
    }

    fn step(&mut self, running: &mut [Running<Sequence, String>]) -> Result<(), BoxError> {
        for one in running {
            let Sequence { last, left } = &mut one.sequence;
            // Which of the words that follow the last one comes next depends on how many are left.
            let follow: Vec<_> = self.words.windows(2).filter(|pair| pair[0] == last).collect();
            if *left == 0 || follow.is_empty() {
                one.finish();
                continue;
            }
            let next = follow[*left % follow.len()][1].to_owned();
            (*last, *left) = (next.clone(), *left - 1);
            one.send(next);
        }
        Ok(())
    }
}

fn main() -> Result<(), BoxError> {
    let chain = Deployment::generate("chain", || Ok(Chain { words: TEXT.split(' ').collect() }));
    let server = run(App::new().with_http(|http| http.port = 0).route("/chain", chain))?;

    // Over HTTP, as server-sent events; without `accept` it would be a line of JSON for each word.
    let url = format!("http://{}/chain", server.addr());
    println!("curl -N -H 'accept: text/event-stream' -d '{{\"word\": \"cat\", \"max_words\": 6}}' {url}");
    let asked = ureq::post(&url).header("accept", "text/event-stream");
    let body = asked.send(r#"{"word": "cat", "max_words": 6}"#)?.into_body().into_reader();
    for line in std::io::BufReader::new(body).lines() {
        println!("  {}", line?);
    }

    // Within the process. Dropping the items ends the sequence.
    let handle = server.handle::<Prompt, Items<String>>("chain")?;
    let mut items = handle.call_blocking(Prompt { word: "dog".into(), max_words: 6 })?;
    let words: Result<Vec<String>, _> = items.blocking().collect();
    println!("dog {}", words?.join(" "));
    server.shutdown();
    Ok(())
}
