-- What programs may read: one view per noun. Views change nothing and need no lock.

create view bough_api.agent_details as
select a.id, a.root_id, a.parent_id, a.role, a.task, a.status, a.status_reason, a.status_at,
  a.depth_level, a.driver, a.program, a.runner_id, a.lease_epoch, a.timeout_s,
  a.depth_limit, a.children_limit, a.running_limit,
  b.allocated, b.used, b.reserved, b.available, b.overdraft, b.frozen_at, b.reclaimed_at,
  b.used + coalesce((
    select sum(d.used) from bough.hierarchies h join bough.budgets d on d.agent_id = h.child_id
     where h.root_id = a.root_id and h.parent_id = a.id and d.reclaimed_at is null
    ), 0)::bigint as subtree_used,
  w.repo_path, w.worktree_path, w.branch_name, w.base_commit, w.head_commit, w.target_branch,
  w.isolation_status, w.files_changed, w.lines_added, w.lines_removed,
  w.disk_bytes::bigint as disk_bytes,
  w.merged_into, w.merged_commit, w.conflicts,
  a.progress, a.progress_note,
  array(select c.id from bough.agents c where c.parent_id = a.id order by c.created_at, c.id)
    as children,
  a.result, a.error_code, a.error_message, a.created_at, a.started_at, a.completed_at
from bough.agents a
left join bough.budgets b on b.agent_id = a.id
left join bough.workspaces w on w.agent_id = a.id;
comment on view bough_api.agent_details is
  'All there is to know of an agent: state, budget, workspace, children, result.';

create view bough_api.runner_details as
select r.id, r.host, r.pid, r.slots, r.created_at, r.expires_at,
  r.expires_at > bough.now() as alive,
  (select count(*) from bough.agents a
    where a.runner_id = r.id and a.status in ('running', 'paused', 'waiting'))::integer as agents
from bough.runners r
where r.retired_at is null;
comment on view bough_api.runner_details is 'Runners that hold agents or may claim some.';
