//! Calls of models.

use std::time::{Duration, Instant};

use consort_proto::inference::inference_service_client::InferenceServiceClient;
use consort_proto::inference::{
    EmbedRequest, GenerateOnceRequest, GenerateOnceResponse, GenerateRequest, GenerateResponse, Message, Part,
    ResponseFormat, Role, Sampling, Tool, ToolCall, part, response_format,
};
use consort_proto::plugin::plugin_registry_service_client::PluginRegistryServiceClient;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::backoff::Backoff;
use crate::client::{Client, fresh_id};
use crate::error::{Error, is_transient};

/// How long a call on behalf of a task is repeated after its connection broke.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest message either way.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// What is asked of a model.
///
/// ```no_run
/// # use consort_sdk::{Client, Prompt};
/// # async fn example(client: Client) -> Result<(), consort_sdk::Error> {
/// let reply = client.generate(Prompt::new("Name a colour.").model("tiny").max_tokens(8)).await?;
/// println!("{}", reply.text());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    request: GenerateRequest,
}

impl Prompt {
    /// A user's message.
    pub fn new(text: impl Into<String>) -> Prompt {
        Prompt::default().message(Role::User, text)
    }

    /// Everything that the wire can say; see `proto/consort/inference/v1/inference_service.proto`.
    pub fn from_request(request: GenerateRequest) -> Prompt {
        Prompt { request }
    }

    /// Adds a message of one text.
    pub fn message(mut self, role: Role, text: impl Into<String>) -> Prompt {
        let parts = vec![Part { kind: Some(part::Kind::Text(text.into())) }];
        self.request.messages.push(Message { role: role.into(), parts, name: String::new() });
        self
    }

    /// Instructions above the conversation.
    pub fn system(mut self, text: impl Into<String>) -> Prompt {
        let parts = vec![Part { kind: Some(part::Kind::Text(text.into())) }];
        self.request.messages.insert(0, Message { role: Role::System.into(), parts, name: String::new() });
        self
    }

    /// Adds a message as it came: a model's with its tool calls, a tool's with its results.
    pub fn then(mut self, message: Message) -> Prompt {
        self.request.messages.push(message);
        self
    }

    /// `PROVIDER/MODEL`, a local model's id or a configured name; without it the configuration chooses.
    pub fn model(mut self, model: impl Into<String>) -> Prompt {
        self.request.model = model.into();
        self
    }

    /// The answer is JSON that matches this schema.
    pub fn schema(mut self, schema: &Value) -> Prompt {
        let kind = Some(response_format::Kind::JsonSchema(schema.to_string()));
        self.request.response_format = Some(ResponseFormat { kind });
        self
    }

    /// The answer is text of this GBNF grammar, whose root rule is `root`. Local models only.
    pub fn grammar(mut self, grammar: impl Into<String>) -> Prompt {
        self.request.response_format =
            Some(ResponseFormat { kind: Some(response_format::Kind::Grammar(grammar.into())) });
        self
    }

    /// A tool that the model may call; `parameters` is the JSON Schema of its arguments.
    pub fn tool(mut self, name: impl Into<String>, description: impl Into<String>, parameters: &Value) -> Prompt {
        let (name, description) = (name.into(), description.into());
        self.request.tools.push(Tool { name, description, parameters: parameters.to_string() });
        self
    }

    /// 0 (always the likeliest token) to 2.
    pub fn temperature(mut self, temperature: f32) -> Prompt {
        self.sampling().temperature = Some(temperature);
        self
    }

    /// Tokens to generate at most.
    pub fn max_tokens(mut self, tokens: u32) -> Prompt {
        self.sampling().max_tokens = Some(tokens as i32);
        self
    }

    /// Equal seeds give equal answers on one local model.
    pub fn seed(mut self, seed: u64) -> Prompt {
        self.sampling().seed = Some(seed);
        self
    }

    /// How long the whole answer may take.
    pub fn timeout(mut self, timeout: Duration) -> Prompt {
        self.request.timeout = timeout.try_into().ok();
        self
    }

    fn sampling(&mut self) -> &mut Sampling {
        self.request.sampling.get_or_insert_default()
    }

    /// The wire's request, made by `parent` and on behalf of `task`.
    pub(crate) fn into_request(self, parent: String, task: Option<consort_proto::agent::LeaseRef>) -> GenerateRequest {
        let mut request = self.request;
        if task.is_some() {
            request.task = task;
        } else if request.parent.is_empty() {
            request.parent = parent;
        }
        request
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Generated {
    /// As the wire has it: who answered, usage, cost, route.
    pub response: GenerateOnceResponse,
}

impl Generated {
    /// The text.
    pub fn text(&self) -> String {
        let parts = self.response.message.iter().flat_map(|message| &message.parts);
        let texts = parts.filter_map(|part| match &part.kind {
            Some(part::Kind::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The text as JSON, for a prompt with a schema.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.text()).map_err(|source| Error::Json { what: "the model's answer", source })
    }

    /// The tools that the model wants to be called.
    pub fn tool_calls(&self) -> Vec<&ToolCall> {
        let parts = self.response.message.iter().flat_map(|message| &message.parts);
        let calls = parts.filter_map(|part| match &part.kind {
            Some(part::Kind::ToolCall(call)) => Some(call),
            _ => None,
        });
        calls.collect()
    }
}

impl Client {
    /// Models.
    pub fn inference(&self) -> InferenceServiceClient<Channel> {
        InferenceServiceClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Plugins and their operations.
    pub fn plugins(&self) -> PluginRegistryServiceClient<Channel> {
        PluginRegistryServiceClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Asks a model and waits for the whole answer. Tried once: a repeated call is paid for again.
    pub async fn generate(&self, prompt: Prompt) -> Result<Generated, Error> {
        self.generate_for(prompt, None).await
    }

    pub(crate) async fn generate_for(
        &self,
        prompt: Prompt,
        task: Option<consort_proto::agent::LeaseRef>,
    ) -> Result<Generated, Error> {
        if task.is_none() {
            let request = GenerateOnceRequest { request: Some(prompt.into_request(self.parent(), None)) };
            let response = self.inference().generate_once(request).await?.into_inner();
            return Ok(Generated { response });
        }
        // On record under this id: a repeated call is not paid for again.
        let request = GenerateRequest { request_id: fresh_id(), ..prompt.into_request(self.parent(), task) };
        let request = GenerateOnceRequest { request: Some(request) };
        let end = Instant::now() + PATIENCE;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let status = match self.inference().generate_once(request.clone()).await {
                Ok(response) => return Ok(Generated { response: response.into_inner() }),
                Err(status) => status,
            };
            // What the mesh itself says of a call stands; a connection that broke under it says nothing.
            if status.get_details_error_info().is_some() || !is_transient(&status) || Instant::now() > end {
                return Err(status.into());
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Asks a model and reads its answer as it comes. Dropping the stream stops the model.
    pub async fn generate_stream(&self, prompt: Prompt) -> Result<Streaming<GenerateResponse>, Error> {
        let request = prompt.into_request(self.parent(), None);
        Ok(self.inference().generate(request).await?.into_inner())
    }

    /// One vector of unit length for each text. An empty `model` is the one configured for embeddings.
    pub async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let (parent, model, texts) = (self.parent(), model.to_owned(), texts.to_vec());
        let request = EmbedRequest { parent, model, texts, ..Default::default() };
        let response = self.inference().embed(request).await?.into_inner();
        Ok(response.embeddings.into_iter().map(|embedding| embedding.values).collect())
    }
}
