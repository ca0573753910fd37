//! The graph of steps: cycles, and whether each expression reads only what is over by then.

use super::Step;
use super::parse::Reader;
use super::steps::Draft;
use super::suggest::brief;

/// Cycles that are named; mending these mends others.
const CYCLE_LIMIT: usize = 20;

/// Reports cycles, and expressions that read steps which are not among the needs, direct or through others.
pub(super) fn check(reader: &mut Reader, drafts: &[Draft]) {
    let order = order(drafts);
    if order.len() < drafts.len() {
        cycles(reader, drafts, &order);
    }
    let words = drafts.len().div_ceil(64);
    // One bit per step that is over before: a row of bits for each step, filled in the order of the graph.
    let mut before: Vec<Vec<u64>> = vec![Vec::new(); drafts.len()];
    for &number in &order {
        let mut row = vec![0u64; words];
        for &need in &drafts[number].needs {
            row[need / 64] |= 1 << (need % 64);
            for (word, bits) in row.iter_mut().zip(&before[need]) {
                *word |= bits;
            }
        }
        before[number] = row;
    }
    let compensates = compensations(drafts);
    check_compensations(reader, drafts, &compensates);
    for (number, (draft, row)) in drafts.iter().zip(&before).enumerate() {
        let id = &draft.id;
        for (read, path, place) in &draft.reads {
            let other = &drafts[*read].id;
            if other == id {
                reader.mistake(*place, path, format!("step `{id}` reads itself"), "read another step");
            } else if compensates[number].is_some() && compensates[*read].is_none() {
                // By then every other step is over, one way or another.
            } else if compensates[number].is_none() && compensates[*read].is_some() {
                let message = format!("step `{id}` reads `steps.{other}`, which runs only after a failure");
                reader.mistake(*place, path, message, "read it in the compensation, or in the workflow's `output`");
            } else if !row.is_empty() && row[read / 64] & (1 << (read % 64)) == 0 {
                let message = format!("step `{id}` reads `steps.{other}` but does not need it");
                reader.mistake(*place, path, message, format!("add `{other}` to its needs"));
            }
        }
    }
}

/// For each step, the first step of the compensation that it belongs to: the targets of `goto`, and what needs these.
fn compensations(drafts: &[Draft]) -> Vec<Option<usize>> {
    let mut compensates: Vec<Option<usize>> = vec![None; drafts.len()];
    for goto in drafts.iter().filter_map(|draft| draft.goto.as_ref()) {
        compensates[goto.target] = Some(goto.target);
    }
    for &number in &order(drafts) {
        let first = drafts[number].needs.iter().find_map(|&need| compensates[need]);
        compensates[number] = compensates[number].or(first);
    }
    compensates
}

fn check_compensations(reader: &mut Reader, drafts: &[Draft], compensates: &[Option<usize>]) {
    if !drafts.is_empty() && compensates.iter().all(Option::is_some) {
        let message = "every step belongs to a compensation, so none would run";
        reader.mistake(drafts[0].place, "steps", message, "let the compensation begin at a step of its own");
    }
    for (number, draft) in drafts.iter().enumerate() {
        let Some(first) = compensates[number] else { continue };
        let (id, begin) = (&draft.id, &drafts[first].id);
        if first == number
            && let Some((path, place)) = draft.need_places.first()
        {
            let message = format!("step `{id}` begins a compensation and must need nothing");
            reader.mistake(*place, path, message, "remove its needs; it may read every step");
        }
        let strange = draft.needs.iter().position(|&need| compensates[need] != Some(first)).filter(|_| first != number);
        if let Some((path, place)) = strange.and_then(|n| draft.need_places.get(n)) {
            let message = format!(
                "step `{id}` belongs to the compensation that begins with `{begin}`, and needs a step outside it"
            );
            reader.mistake(*place, path, message, "remove this need; a compensation may read every step");
        }
        if let Some(goto) = &draft.goto {
            let message = format!("step `{id}` is itself part of the compensation that begins with `{begin}`");
            reader.mistake(goto.place, &goto.path, message, "use `fail` or `continue` here");
        }
    }
}

/// The steps with the steps that need them; `None` if one of them could not be read.
pub(super) fn link(drafts: Vec<Draft>) -> Option<Vec<Step>> {
    let compensates = compensations(&drafts);
    let mut steps: Vec<Step> = drafts.into_iter().map(|draft| draft.step).collect::<Option<_>>()?;
    for (step, first) in steps.iter_mut().zip(compensates) {
        step.compensates = first;
    }
    for number in 0..steps.len() {
        for at in 0..steps[number].needs.len() {
            let need = steps[number].needs[at];
            steps[need].dependents.push(number);
        }
    }
    Some(steps)
}

/// The steps in an order in which each comes after its needs; those on or behind a cycle are left out.
fn order(drafts: &[Draft]) -> Vec<usize> {
    let mut waiting: Vec<usize> = drafts.iter().map(|draft| draft.needs.len()).collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for (number, draft) in drafts.iter().enumerate() {
        for &need in &draft.needs {
            dependents[need].push(number);
        }
    }
    let mut order: Vec<usize> = (0..drafts.len()).filter(|&number| waiting[number] == 0).collect();
    let mut next = 0;
    while let Some(&done) = order.get(next) {
        next += 1;
        for &dependent in &dependents[done] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                order.push(dependent);
            }
        }
    }
    order
}

/// Every step that is left has a need that is left too, so following needs ends in a cycle.
fn cycles(reader: &mut Reader, drafts: &[Draft], order: &[usize]) {
    let mut settled = vec![false; drafts.len()];
    for &number in order {
        settled[number] = true;
    }
    let mut named = 0;
    for start in 0..drafts.len() {
        let mut walk: Vec<usize> = Vec::new();
        let mut place_in_walk = std::collections::HashMap::new();
        let mut at = start;
        while !settled[at] && !place_in_walk.contains_key(&at) {
            place_in_walk.insert(at, walk.len());
            walk.push(at);
            let Some(&need) =
                drafts[at].needs.iter().find(|&&need| !settled[need] || place_in_walk.contains_key(&need))
            else {
                break;
            };
            at = need;
        }
        if let Some(&begin) = place_in_walk.get(&at).filter(|_| !settled[at])
            && drafts[walk[walk.len() - 1]].needs.contains(&at)
        {
            let cycle = &walk[begin..];
            let names: Vec<&str> = cycle.iter().chain([&at]).map(|&number| &*drafts[number].id).collect();
            let draft = &drafts[at];
            let need = draft.needs.iter().position(|need| cycle.contains(need));
            let (path, place) =
                need.map_or_else(|| (format!("steps[{at}]"), draft.place), |n| draft.need_places[n].clone());
            let message = format!("these steps need each other: {}", brief(&names.join(" → "), 400));
            reader.mistake(place, &path, message, "remove one of these needs");
            named += 1;
        }
        for number in walk {
            settled[number] = true;
        }
        if named == CYCLE_LIMIT {
            return;
        }
    }
}
