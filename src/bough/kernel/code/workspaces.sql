-- What became of an agent's worktree: made, saved, failed. How it is merged stands in merged.sql.
--
-- Only the runner that holds the agent makes and saves its workspace.
-- Nothing here touches files: the runner does that first and records it here.

create function bough_api.open_workspace(
  agent_id uuid, epoch bigint, worktree_path text, branch_name text, base_commit text
) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._hold(open_workspace.agent_id, open_workspace.epoch);
  update bough.workspaces w set worktree_path = open_workspace.worktree_path,
    branch_name = open_workspace.branch_name, base_commit = open_workspace.base_commit,
    isolation_status = 'active' where w.agent_id = open_workspace.agent_id;
end $$;
comment on function bough_api.open_workspace is 'The worktree is there and the agent may start.';

create function bough_api.save_workspace(
  agent_id uuid, epoch bigint, head_commit text, files_changed integer, lines_added integer,
  lines_removed integer
) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._hold(save_workspace.agent_id, save_workspace.epoch);
  update bough.workspaces w set head_commit = save_workspace.head_commit,
    files_changed = save_workspace.files_changed, lines_added = save_workspace.lines_added,
    lines_removed = save_workspace.lines_removed, isolation_status = 'saved'
   where w.agent_id = save_workspace.agent_id;
end $$;
comment on function bough_api.save_workspace is 'All work is committed at head_commit.';

create function bough_api.fail_workspace(agent_id uuid, epoch bigint) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._hold(fail_workspace.agent_id, fail_workspace.epoch);
  update bough.workspaces w set isolation_status = 'failed', worktree_path = null,
    branch_name = null where w.agent_id = fail_workspace.agent_id;
end $$;
comment on function bough_api.fail_workspace is 'The worktree could not be made; nothing is left.';
