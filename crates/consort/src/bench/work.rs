//! What the runs of the bench do.

use std::fmt::Write as _;

use super::worker::{AGENT, MAKER, TAKER};

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Steps, one after the other.
    Chain(u32),
    /// One step for each of many items, all at once.
    Fan(u32),
    /// Two steps: what the first answers is the input of the second.
    Payload,
}

impl Work {
    /// Steps of a run; each item counts.
    pub(super) fn steps(self) -> u32 {
        match self {
            Work::Chain(steps) | Work::Fan(steps) => steps,
            Work::Payload => 2,
        }
    }

    /// The workflow.
    pub(super) fn definition(self) -> String {
        match self {
            Work::Chain(steps) => chain(steps),
            Work::Fan(items) => fan(items),
            Work::Payload => format!(
                "name: bench-payload\n\
                 steps:\n  - {{id: make, agent: {MAKER}}}\n  \
                 - {{id: take, agent: {TAKER}, needs: [make], with: {{data: \"${{{{ steps.make.output }}}}\"}}}}\n\
                 output: \"${{{{ steps.take.output }}}}\"\n"
            ),
        }
    }
}

fn chain(steps: u32) -> String {
    let mut source = format!("name: bench-{steps}\nsteps:\n");
    for step in 1..=steps {
        let needs = if step == 1 { String::new() } else { format!(", needs: [s{}]", step - 1) };
        let _ = writeln!(source, "  - {{id: s{step}, agent: {AGENT}{needs}}}");
    }
    let _ = writeln!(source, "output: \"${{{{ steps.s{steps}.output }}}}\"");
    source
}

fn fan(items: u32) -> String {
    let list: Vec<String> = (0..items).map(|item| item.to_string()).collect();
    format!(
        "name: bench-fan-{items}\n\
         inputs:\n  items: {{type: array, default: [{}]}}\n\
         steps:\n  - {{id: each, for_each: \"${{{{ inputs.items }}}}\", agent: {AGENT}}}\n\
         output: \"${{{{ inputs.items[0] }}}}\"\n",
        list.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use consort_core::workflow::Workflow;

    use super::*;

    #[test]
    fn a_chain_names_each_step_before() {
        assert_eq!(
            Work::Chain(2).definition(),
            "name: bench-2\nsteps:\n  - {id: s1, agent: noop}\n  - {id: s2, agent: noop, needs: [s1]}\n\
             output: \"${{ steps.s2.output }}\"\n"
        );
        assert!(Work::Fan(3).definition().contains("default: [0, 1, 2]"));
        assert!(Work::Fan(3).definition().contains("for_each: \"${{ inputs.items }}\""));
    }

    #[test]
    fn every_definition_is_accepted() {
        for work in [Work::Chain(10), Work::Fan(1_000), Work::Payload] {
            assert!(Workflow::parse(&work.definition()).is_ok(), "{work:?}");
        }
    }
}
