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
  lines_removed integer, disk_bytes bigint, paths text[], kinds text[], old_paths text[],
  added integer[], removed integer[]
) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(save_workspace.agent_id, save_workspace.epoch);
begin
  -- The row's lock makes two that save one agent go one after the other.
  update bough.workspaces w set head_commit = save_workspace.head_commit,
    files_changed = save_workspace.files_changed, lines_added = save_workspace.lines_added,
    lines_removed = save_workspace.lines_removed, disk_bytes = save_workspace.disk_bytes,
    isolation_status = 'saved' where w.agent_id = save_workspace.agent_id;
  delete from bough.file_changes f where f.agent_id = save_workspace.agent_id;
  insert into bough.file_changes (root_id, agent_id, number, path, kind, old_path, lines_added,
    lines_removed)
  select _root_id, save_workspace.agent_id, u.number, u.path, u.kind, u.old_path, u.added,
    u.removed from unnest(paths, kinds, old_paths, save_workspace.added, save_workspace.removed)
      with ordinality u (path, kind, old_path, added, removed, number);
end $$;
comment on function bough_api.save_workspace is
  'All work is committed at head_commit; which files it changed takes the place of what was said.';

create function bough_api.fail_workspace(agent_id uuid, epoch bigint) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._hold(fail_workspace.agent_id, fail_workspace.epoch);
  update bough.workspaces w set isolation_status = 'failed', worktree_path = null,
    branch_name = null where w.agent_id = fail_workspace.agent_id;
end $$;
comment on function bough_api.fail_workspace is 'The worktree could not be made; nothing is left.';

create function bough_api.kept_workspaces(repo_path text)
returns table (id uuid, root_id uuid, task text, status text, age_s bigint, repository text,
  worktree_path text, branch_name text, base_commit text, head_commit text,
  isolation_status text, merged_into text, merged_commit text, is_target boolean,
  host text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select a.id, a.root_id, a.task::text, a.status::text,
      extract(epoch from bough.now() - greatest(a.completed_at, w.updated_at))::bigint,
      w.repo_path, w.worktree_path, w.branch_name,
      w.base_commit::text, w.head_commit::text, w.isolation_status::text, w.merged_into,
      w.merged_commit,
      exists (select from bough.workspaces o where o.root_id = w.root_id
        and o.target_branch = w.branch_name and o.merged_commit is null
        and coalesce(o.files_changed, 1) > 0),
      (select r.host from bough.attempts t join bough.runners r on r.id = t.runner_id
        where t.agent_id = a.id order by t.lease_epoch desc limit 1)
    from bough.workspaces w join bough.agents a on a.id = w.agent_id
   where w.worktree_path is not null and w.isolation_status <> 'removed'
     and (kept_workspaces.repo_path is null or w.repo_path = kept_workspaces.repo_path)
   order by a.completed_at nulls last, a.id;
end $$;
comment on function bough_api.kept_workspaces is
  'Worktrees that were not removed yet: whose, how long unused, merged or not, on which machine.';

create function bough_api.remove_workspace(agent_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _status text := (select a.status::text from bough.agents a
    where a.id = remove_workspace.agent_id);
begin
  if not bough.has_ended(_status) then
    raise exception 'agent % is % and needs its worktree; end it first: bough kill %',
      left(agent_id::text, 8), _status, left(agent_id::text, 8) using errcode = 'TR003';
  end if;
  update bough.workspaces w set isolation_status = 'removed', disk_bytes = 0
   where w.agent_id = remove_workspace.agent_id and w.worktree_path is not null;
  if not found then
    raise exception 'agent % has no workspace to remove', left(agent_id::text, 8)
      using errcode = 'TR010';
  end if;
end $$;
comment on function bough_api.remove_workspace is
  'The worktree of an ended agent is gone; what was in it is reached by refs.';
