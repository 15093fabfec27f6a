-- How a merge ends, and who hears of it.
--
-- In one transaction: the entry, the agent's workspace, that of the agent whose conflict this one
-- has resolved, and mail to the parent (or the operator) when a conflict is new. Who must be told
-- does not end meanwhile. Repeating it changes nothing.

create function bough_api.record_merge(
  merge_id uuid, status text, source_commit text, previous_commit text, merged_commit text,
  conflicts text[], reason text, gate_output text, below uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _merge record;
begin
  select m.root_id, m.agent_id, m.target_branch, a.parent_id into _merge
    from bough.merges m join bough.agents a on a.id = m.agent_id where m.id = record_merge.merge_id;
  if not found then
    raise exception 'no merge %', left(merge_id::text, 8) using errcode = 'TR010';
  elsif not bough_api._may_merge(_merge.agent_id, _merge.root_id, record_merge.below) then
    raise exception 'agent % is not below %; an agent merges what it spawned',
      left(_merge.agent_id::text, 8), left(below::text, 8) using errcode = 'TR019';
  end if;
  perform from bough.agents p where p.id = _merge.parent_id for share;
  update bough.merges m set status = record_merge.status, ended_at = bough.now(),
    source_commit = record_merge.source_commit, previous_commit = record_merge.previous_commit,
    merged_commit = record_merge.merged_commit, conflicts = record_merge.conflicts,
    reason = record_merge.reason, gate_output = record_merge.gate_output
   where m.id = record_merge.merge_id and m.status = 'queued';
  if not found then
    return;
  elsif record_merge.status = 'merged' then
    perform bough_api._take_work(_merge.agent_id, _merge.target_branch,
      record_merge.merged_commit, record_merge.previous_commit = record_merge.merged_commit);
    perform bough_api._settle_conflict(_merge.agent_id, record_merge.merge_id);
  elsif record_merge.status = 'conflicted' then
    perform bough_api._tell_conflict(record_merge.merge_id);
    update bough.workspaces w set isolation_status = bough_api._unless_removed(
        w.isolation_status::text, 'conflicted'),
      merged_into = _merge.target_branch, merged_commit = null, conflicts = record_merge.conflicts
     where w.agent_id = _merge.agent_id;
  end if;
end $$;
comment on function bough_api.record_merge is
  'The end of a merge: merged, conflicted, refused or gate_failed, with all that is known.';

create function bough_api._take_work(agent_id uuid, branch text, commit text, was_there boolean)
returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- Merging again must not make a later commit of the branch the one that took the work.
  update bough.workspaces w set merged_into = _take_work.branch,
    isolation_status = bough_api._unless_removed(w.isolation_status::text, 'merged'),
    merged_commit = _take_work.commit, conflicts = '{}'
   where w.agent_id = _take_work.agent_id
     and not (_take_work.was_there and w.merged_commit is not null);
end $$;
comment on function bough_api._take_work is 'Notes with an agent that a branch has its work.';

create function bough_api._unless_removed(status text, otherwise text) returns text
language sql immutable security definer set search_path = '' as $$
  select case when status = 'removed' then status else otherwise end;
$$;
comment on function bough_api._unless_removed is
  'A worktree that is gone stays gone, whatever becomes of its branch.';

create function bough_api._settle_conflict(resolver_id uuid, merge_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _settled record;
begin
  for _settled in
    select distinct on (o.agent_id) o.agent_id, o.root_id, o.source_commit, d.repo_path,
        d.target_branch, d.strategy, d.previous_commit, d.merged_commit
      from bough.merges o join bough.merges d on d.id = _settle_conflict.merge_id
     where o.resolver_id = _settle_conflict.resolver_id and o.source_commit is not null
       and (o.repo_path, o.target_branch) = (d.repo_path, d.target_branch)
     order by o.agent_id, o.place desc loop
    insert into bough.merges (id, root_id, agent_id, repo_path, target_branch, strategy, status,
      source_commit, previous_commit, merged_commit, resolver_id, ended_at)
    values (gen_random_uuid(), _settled.root_id, _settled.agent_id, _settled.repo_path,
      _settled.target_branch, _settled.strategy, 'merged', _settled.source_commit,
      _settled.previous_commit, _settled.merged_commit, _settle_conflict.resolver_id, bough.now());
    perform bough_api._take_work(_settled.agent_id, _settled.target_branch,
      _settled.merged_commit, false);
    perform bough_api._settle_conflict(_settled.agent_id, _settle_conflict.merge_id);
  end loop;
end $$;
comment on function bough_api._settle_conflict is
  'What a resolver brought into a branch brings there the work whose conflict it resolved.';

create function bough_api._tell_conflict(merge_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _operator constant uuid := '00000000-0000-0000-0000-000000000000'::uuid;
  _told record;
  _news jsonb;
begin
  select m.root_id, m.agent_id, m.target_branch, m.conflicts, a.parent_id, a.role, p.completed_at,
      coalesce(w.conflicts = m.conflicts, false) as is_known into _told
    from bough.merges m join bough.agents a on a.id = m.agent_id
    join bough.workspaces w on w.agent_id = m.agent_id
    left join bough.agents p on p.id = a.parent_id where m.id = _tell_conflict.merge_id;
  if _told.is_known or _told.completed_at is not null then
    return;
  end if;
  _news := jsonb_build_object('agent_id', _told.agent_id, 'role', _told.role,
    'merge_id', _tell_conflict.merge_id, 'into', left(_told.target_branch, 200),
    'paths', cardinality(_told.conflicts));
  if octet_length(to_jsonb(_told.conflicts)::text) <= 8000 then
    _news := _news || jsonb_build_object('conflicts', _told.conflicts);
  else
    _news := _news || jsonb_build_object('conflicts_left_out', true);
  end if;
  insert into bough.messages (root_id, recipient_id, type, priority, payload)
  values (_told.root_id, coalesce(_told.parent_id, _operator), 'child.conflicted', 'high', _news);
end $$;
comment on function bough_api._tell_conflict is
  'Writes to the parent of an agent, or the operator, that its work conflicts, where it is news.';

create function bough_api.resolve_merge(merge_id uuid, resolver_id uuid, below uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  update bough.merges m set resolver_id = resolve_merge.resolver_id
   where m.id = resolve_merge.merge_id and m.status = 'conflicted'
     and bough_api._may_merge(m.agent_id, m.root_id, resolve_merge.below);
  if not found then
    raise exception 'no merge % in conflict', left(merge_id::text, 8) using errcode = 'TR010';
  end if;
end $$;
comment on function bough_api.resolve_merge is
  'Notes who resolves a conflict: the merge of that agent will settle this one.';
