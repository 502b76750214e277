//! Memory: which models go so that another one fits, and the figures when none does.

use std::time::Instant;

/// What the choice needs to know of a model in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant {
    pub index: usize,
    pub bytes: u64,
    pub last_used: Instant,
    /// Never unloaded to make room.
    pub pinned: bool,
}

/// Why a model cannot fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub needed: u64,
    pub budget: u64,
    /// What pinned models take of the budget.
    pub pinned: u64,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(out, "it takes {:.1} MiB and models.memory_budget is {:.1} MiB", mib(self.needed), mib(self.budget))?;
        if self.pinned > 0 {
            write!(out, ", of which pinned models take {:.1} MiB", mib(self.pinned))?;
        }
        write!(out, "; raise the budget, or choose a smaller precision in models.precision")
    }
}

/// The models to unload, the one unused for longest first, so that `needed` bytes fit into `budget`.
pub(super) fn make_room(tenants: &[Tenant], needed: u64, budget: u64) -> Result<Vec<usize>, NoRoom> {
    let pinned = tenants.iter().filter(|tenant| tenant.pinned).map(|tenant| tenant.bytes).sum::<u64>();
    if pinned.saturating_add(needed) > budget {
        return Err(NoRoom { needed, budget, pinned });
    }
    let mut used = tenants.iter().map(|tenant| tenant.bytes).sum::<u64>();
    let mut candidates: Vec<&Tenant> = tenants.iter().filter(|tenant| !tenant.pinned).collect();
    candidates.sort_by_key(|tenant| tenant.last_used);
    let mut out = Vec::new();
    for tenant in candidates {
        if used.saturating_add(needed) <= budget {
            break;
        }
        used -= tenant.bytes;
        out.push(tenant.index);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tenants(of: &[(u64, u64, bool)]) -> Vec<Tenant> {
        let start = Instant::now();
        of.iter()
            .enumerate()
            .map(|(index, (bytes, used, pinned))| Tenant {
                index,
                bytes: *bytes,
                last_used: start + Duration::from_secs(*used),
                pinned: *pinned,
            })
            .collect()
    }

    #[test]
    fn the_one_unused_for_longest_goes_first_and_only_as_many_as_needed() {
        let there = tenants(&[(30, 3, false), (30, 1, false), (30, 2, true)]);
        assert_eq!(make_room(&there, 10, 100), Ok(vec![]));
        assert_eq!(make_room(&there, 20, 100), Ok(vec![1]));
        assert_eq!(make_room(&there, 60, 100), Ok(vec![1, 0]));
        assert_eq!(make_room(&there, 71, 100), Err(NoRoom { needed: 71, budget: 100, pinned: 30 }));
    }

    #[test]
    fn a_budget_below_what_is_used_unloads_until_it_holds() {
        let there = tenants(&[(30, 3, false), (30, 1, false)]);
        assert_eq!(make_room(&there, 0, 40), Ok(vec![1]));
        assert_eq!(make_room(&there, 0, 20), Ok(vec![1, 0]));
    }

    #[test]
    fn the_refusal_holds_the_figures() {
        let sentence = NoRoom { needed: 3 << 20, budget: 5 << 20, pinned: 4 << 20 }.to_string();
        assert!(sentence.contains("3.0 MiB") && sentence.contains("5.0 MiB") && sentence.contains("4.0 MiB"));
    }
}
