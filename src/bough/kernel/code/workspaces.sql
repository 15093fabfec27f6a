-- What became of an agent's worktree: made, saved, merged, in conflict, failed, removed.
--
-- Only the runner that holds the agent makes and saves its workspace; anybody may merge it.
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

create function bough_api.record_merge(
  agent_id uuid, head_commit text, merged_into text, merged_commit text, conflicts text[]
) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  update bough.workspaces w set
    isolation_status = case when record_merge.conflicts = '{}' then 'merged' else 'conflicted' end,
    head_commit = record_merge.head_commit, merged_into = record_merge.merged_into,
    merged_commit = record_merge.merged_commit, conflicts = record_merge.conflicts
   where w.agent_id = record_merge.agent_id;
  if not found then
    raise exception 'agent % has no workspace to merge', left(agent_id::text, 8)
      using errcode = 'TR010';
  end if;
end $$;
comment on function bough_api.record_merge is
  'The outcome of a merge: the commit it made, or the paths in conflict.';
