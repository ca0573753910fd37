//! What the programs here share: the messages, and a closed loop of lanes that counts what ended within a window.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// Generated types of `proto/shape.proto`.
pub mod wire {
    tonic::include_proto!("shape");
}

/// How the loop is driven.
#[derive(Clone, Debug, clap::Args)]
pub struct Loop {
    /// Lanes; each has one request under way.
    #[arg(long, default_value_t = 64)]
    pub concurrency: usize,
    /// Connections that lanes share.
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// How long requests count.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// How long they go on before they count.
    #[arg(long, default_value_t = 2)]
    pub warmup: u64,
    /// Make so many requests in all, and count every one; the window does not matter then.
    #[arg(long)]
    pub requests: Option<u64>,
}

/// What a lane saw.
struct Seen {
    micros: Histogram<u64>,
    errors: u64,
    example: Option<String>,
}

impl Seen {
    fn new() -> Seen {
        let micros = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are legal");
        Seen { micros, errors: 0, example: None }
    }
}

impl Loop {
    /// Runs lanes until the window closes and each has its last answer, then prints one line of JSON: the rate, latencies in
    /// milliseconds, and errors. `lane` makes what a lane does again and again.
    pub async fn run<L, F, E>(&self, mut lane: impl FnMut(usize) -> L)
    where
        L: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: ToString + Send + 'static,
    {
        let began = Instant::now();
        let window = Window {
            from: began + Duration::from_secs(self.warmup),
            to: began + Duration::from_secs(self.warmup + self.seconds),
        };
        let mut lanes = JoinSet::new();
        for number in 0..self.concurrency {
            // Spread over the lanes, the first ones take what is left over.
            let quota = self.requests.map(|all| {
                let (lanes, number) = (self.concurrency as u64, number as u64);
                all / lanes + u64::from(number < all % lanes)
            });
            lanes.spawn(one_lane(lane(number), window, quota));
        }
        let mut all = Seen::new();
        while let Some(seen) = lanes.join_next().await {
            let seen = seen.expect("a lane does not panic");
            all.micros.add(seen.micros).expect("all histograms have the same bounds");
            all.errors += seen.errors;
            all.example = all.example.or(seen.example);
        }
        let seconds = if self.requests.is_some() { began.elapsed().as_secs_f64() } else { self.seconds as f64 };
        let at = |quantile| all.micros.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{}",
            serde_json::json!({
                "concurrency": self.concurrency,
                "connections": self.connections,
                "seconds": seconds,
                "runs": all.micros.len(),
                "runs_per_s": all.micros.len() as f64 / seconds,
                "p50_ms": at(0.5),
                "p99_ms": at(0.99),
                "errors": all.errors,
                "error_examples": all.example.into_iter().collect::<Vec<_>>(),
            })
        );
    }
}

#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

async fn one_lane<L, F, E>(mut request: L, window: Window, quota: Option<u64>) -> Seen
where
    L: FnMut() -> F,
    F: Future<Output = Result<(), E>>,
    E: ToString,
{
    let mut seen = Seen::new();
    let mut made = 0;
    loop {
        let begun = Instant::now();
        let over = quota.map_or(begun >= window.to, |quota| made >= quota);
        if over {
            return seen;
        }
        made += 1;
        let answer = request().await;
        let ended = Instant::now();
        match answer {
            Ok(()) if quota.is_some() || (ended >= window.from && ended <= window.to) => {
                seen.micros.saturating_record((ended - begun).as_micros() as u64);
            }
            Ok(()) => {}
            Err(error) => {
                seen.errors += 1;
                seen.example.get_or_insert_with(|| error.to_string());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
