//! Paths with fixed parts: finding them in a tree, and what they may name.

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

use super::{Compiler, Local, Path, Problem, ROOTS, Root};
use crate::workflow::lookup::Segment;
use crate::workflow::suggest::{brief, list, nearest};

impl Compiler<'_> {
    /// The root name and the fixed parts of a path, if the node is one.
    pub(super) fn path_of(&self, node: &IdedExpr) -> Option<(String, Vec<Segment>)> {
        let mut segments = Vec::new();
        let mut expr = &node.expr;
        loop {
            expr = match expr {
                Expr::Ident(name) => {
                    let root = ROOTS.contains(&name.as_str()) || Local::named(name).is_some();
                    let path = root && !self.variables.contains(name);
                    segments.reverse();
                    return path.then(|| (name.clone(), segments));
                }
                Expr::Select(select) if !select.test => {
                    segments.push(Segment::Key(select.field.clone()));
                    &select.operand.expr
                }
                Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                    segments.push(match &call.args[1].expr {
                        Expr::Literal(LiteralValue::String(key)) => Segment::Key(key.inner().to_owned()),
                        Expr::Literal(LiteralValue::Int(n)) => Segment::Index(usize::try_from(*n.inner()).ok()?),
                        _ => return None,
                    });
                    &call.args[0].expr
                }
                _ => return None,
            };
        }
    }

    /// The path from a root name, or a problem.
    pub(super) fn resolve(&mut self, root: &str, mut segments: Vec<Segment>) -> Option<Path> {
        let mut parts = segments.iter().map(|s| match s {
            Segment::Key(key) => key.as_str(),
            Segment::Index(_) => "",
        });
        let (first, second) = (parts.next(), parts.next());
        if let Some(local) = Local::named(root) {
            if !self.names.locals.contains(&local) {
                let hint = format!("an expression can read {} here", list(self.names.known()));
                self.problems.push(Problem::new(format!("`{root}` is there only {}", local.place()), hint));
                return None;
            }
            return Some(Path { root: self.root(Root::Local(local)), segments });
        }
        if self.names.trigger {
            let message = format!("there is no `{root}` in a trigger: the run begins only then");
            let hint = format!("an expression can read {} here", list(self.names.known()));
            self.problems.push(Problem::new(message, hint));
            return None;
        }
        let (found, used) = match root {
            "inputs" => {
                if let Some(name) = first {
                    self.check_input(name);
                }
                (Root::Inputs, 0)
            }
            "run" => match first {
                Some("id") => (Root::RunId, 1),
                Some("workflow") => (Root::RunWorkflow, 1),
                Some("project") => (Root::RunProject, 1),
                _ => {
                    let found = segments.first().map_or_else(|| "run".to_owned(), |s| format!("run{s}"));
                    self.problems.push(Problem::new(
                        format!("there is no `{found}` to read"),
                        "there are `run.id`, `run.workflow` and `run.project`",
                    ));
                    return None;
                }
            },
            _ => match (first.filter(|id| self.check_step(id)), second) {
                (Some(id), Some("output")) => (Root::Output(id.into()), 2),
                (Some(id), Some("status")) => (Root::Status(id.into()), 2),
                (Some(id), Some("error")) => (Root::Error(id.into()), 2),
                (None, _) if first.is_some() => return None,
                _ => {
                    let found: String = segments.iter().take(2).map(ToString::to_string).collect();
                    let id = segments.first().map_or_else(|| ".ID".to_owned(), ToString::to_string);
                    let hint = format!("write `steps{id}.output`, `steps{id}.status` or `steps{id}.error`");
                    self.problems.push(Problem::new(format!("`steps{found}` is not a value"), hint));
                    return None;
                }
            },
        };
        Some(Path { root: self.root(found), segments: segments.split_off(used) })
    }

    /// The number of a root.
    fn root(&mut self, found: Root) -> usize {
        self.roots.iter().position(|root| *root == found).unwrap_or_else(|| {
            self.roots.push(found);
            self.roots.len() - 1
        })
    }

    pub(super) fn variable(&mut self, path: Path) -> Expr {
        let number = self.paths.iter().position(|known| *known == path).unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        });
        Expr::Ident(format!("@{number}"))
    }

    /// `has(x.y)`: an unknown input or step is a mistake, not an absence. False if it makes no sense to go on.
    pub(super) fn check_presence(&mut self, operand: &IdedExpr, field: &str) -> bool {
        let Some((root, segments)) = self.path_of(operand) else { return true };
        match (root.as_str(), segments.as_slice()) {
            ("inputs", []) => self.check_input(field),
            ("steps" | "run", short) if short.len() < 2 && !(root == "run" && short.len() == 1) => {
                let message = format!(
                    "`has()` cannot ask about `{root}{}.{field}`",
                    short.first().map_or_else(String::new, ToString::to_string)
                );
                self.problems.push(Problem::new(message, "it is always there; an output that was not given is `null`"));
                return false;
            }
            _ => {}
        }
        true
    }

    pub(super) fn check_input(&mut self, name: &str) {
        if self.names.inputs.iter().any(|known| known == name) {
            return;
        }
        let known = || self.names.inputs.iter().map(String::as_str);
        let hint = match nearest(name, known()) {
            Some(meant) => format!("did you mean `inputs.{meant}`?"),
            None => format!("declared are {}", list(known())),
        };
        self.problems.push(Problem::new(format!("there is no input `{}`", brief(name, 60)), hint));
    }

    fn check_step(&mut self, id: &str) -> bool {
        if self.names.steps.contains_key(id) {
            return true;
        }
        let known = || self.names.steps.keys().map(|id| &**id);
        let hint = nearest(id, known())
            .map_or_else(|| "name the `id` of a step".to_owned(), |meant| format!("did you mean `{meant}`?"));
        self.problems.push(Problem::new(format!("there is no step `{}`", brief(id, 60)), hint));
        false
    }
}
