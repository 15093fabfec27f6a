-- Merges of agents' work into branches: queued here, done by whoever holds the branch's lock.
--
-- git is the truth of what a branch holds; here stands what is asked for, what the branch is about
-- to become (plan_merges, before it moves) and what became of each. `below` limits a call to what
-- is at or below one agent; null: no limit. Refusals: TR001, TR003 (not ended), TR010, TR019.
--
-- Lock order: agents, merges, workspaces, then mail.

create function bough_api.queue_merge(
  key uuid, agent_id uuid, target_branch text, strategy text) returns table (id uuid, status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _agent record;
begin
  select a.root_id, a.completed_at, w.repo_path, w.branch_name, w.head_commit into _agent
    from bough.agents a left join bough.workspaces w on w.agent_id = a.id
   where a.id = queue_merge.agent_id;
  if not found then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  elsif _agent.branch_name is null or _agent.head_commit is null then
    raise exception 'agent % has no workspace to merge', left(agent_id::text, 8)
      using errcode = 'TR010';
  elsif _agent.completed_at is null then
    raise exception 'agent % has not ended; wait for it', left(agent_id::text, 8)
      using errcode = 'TR003';
  end if;
  insert into bough.merges (id, root_id, agent_id, repo_path, target_branch, strategy)
  values (queue_merge.key, _agent.root_id, queue_merge.agent_id, _agent.repo_path,
    queue_merge.target_branch, queue_merge.strategy) on conflict (id) do nothing;
  return query select m.id, m.status::text from bough.merges m where m.id = queue_merge.key;
end $$;
comment on function bough_api.queue_merge is
  'Puts the work of an agent that has ended in line for a branch; a repeat gives the first.';

create function bough_api._may_merge(agent_id uuid, root_id uuid, below uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return below is null or agent_id = below or exists (select from bough.hierarchies h
    where h.root_id = _may_merge.root_id and h.parent_id = below
      and h.child_id = _may_merge.agent_id);
end $$;
comment on function bough_api._may_merge is 'Whether an agent is at or below another (null: any).';

create function bough_api.merge_queue(repo_path text, target_branch text, below uuid)
returns table (id uuid, agent_id uuid, root_id uuid, branch text, strategy text, role text,
  task text, source_branch text, head_commit text, planned_commit text, planned_on text,
  planned_source text, landed_sources text[], landed_commits text[], settled text[])
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select m.id, m.agent_id, m.root_id, m.target_branch, m.strategy::text, a.role::text,
    a.task::text, w.branch_name, w.head_commit::text, m.merged_commit::text,
    m.previous_commit::text, m.source_commit::text, l.sources, l.commits, coalesce(
      (select o.conflicts from bough.merges o where o.resolver_id = m.agent_id
        order by o.place desc limit 1), '{}')
    from bough.merges m
    join bough.agents a on a.id = m.agent_id
    join bough.workspaces w on w.agent_id = m.agent_id
    cross join lateral (
      select coalesce(array_agg(e.source_commit::text order by e.place), '{}') as sources,
        coalesce(array_agg(e.merged_commit::text order by e.place), '{}') as commits
        from bough.merges e where e.agent_id = m.agent_id and e.status = 'merged'
         and e.repo_path = m.repo_path and e.target_branch = m.target_branch) l
   where m.status = 'queued' and m.repo_path = merge_queue.repo_path
     and (merge_queue.target_branch is null or m.target_branch = merge_queue.target_branch)
     and bough_api._may_merge(m.agent_id, m.root_id, merge_queue.below)
   order by m.place;
end $$;
comment on function bough_api.merge_queue is
  'What waits for a branch (null: for any), first to last, with plans and earlier merges.';

create function bough_api.plan_merges(
  merge_ids uuid[], sources text[], previous text[], commits text[], below uuid)
returns table (id uuid)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- What an earlier plan of the same branch would have become counts no more.
  update bough.merges m set merged_commit = null, previous_commit = null, source_commit = null
   where m.status = 'queued' and m.merged_commit is not null
     and bough_api._may_merge(m.agent_id, m.root_id, plan_merges.below)
     and (m.repo_path, m.target_branch) in (select o.repo_path, o.target_branch
       from bough.merges o where o.id = any (merge_ids));
  return query
  update bough.merges m set source_commit = p.source, previous_commit = p.previous,
      merged_commit = p.commit
    from unnest(merge_ids, sources, previous, commits) p (id, source, previous, commit)
   where m.id = p.id and m.status = 'queued'
     and bough_api._may_merge(m.agent_id, m.root_id, plan_merges.below)
  returning m.id;
end $$;
comment on function bough_api.plan_merges is
  'Writes down, before a branch moves, which commit brings which merge; those still queued.';

create function bough_api.withdraw_merge(merge_id uuid, below uuid) returns table (status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- What is planned may have landed: it is for whoever comes next to find out.
  update bough.merges m set status = 'withdrawn', ended_at = bough.now()
   where m.id = withdraw_merge.merge_id and m.status = 'queued' and m.merged_commit is null
     and bough_api._may_merge(m.agent_id, m.root_id, withdraw_merge.below);
  return query select m.status::text from bough.merges m where m.id = withdraw_merge.merge_id;
end $$;
comment on function bough_api.withdraw_merge is
  'Takes a merge out of line unless it is being done; what it is now.';

create function bough_api.merges(merge_ids uuid[], below uuid)
returns table (id uuid, agent_id uuid, branch text, strategy text, status text,
  source_commit text, previous_commit text, merged_commit text, conflicts text[], reason text,
  gate_output text, resolver_id uuid, ended_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select m.id, m.agent_id, m.target_branch, m.strategy::text, m.status::text,
      m.source_commit::text, m.previous_commit::text, m.merged_commit::text, m.conflicts, m.reason,
      m.gate_output::text, m.resolver_id, m.ended_at
    from bough.merges m where m.id = any (merges.merge_ids)
     and bough_api._may_merge(m.agent_id, m.root_id, merges.below) order by m.place;
end $$;
comment on function bough_api.merges is 'What became of these merges, in the order of the queue.';
