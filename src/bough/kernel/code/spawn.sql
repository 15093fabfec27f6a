-- Making an agent, and finding one.
--
-- spawn checks everything, then makes agent, budget, place in the tree and workspace request in
-- one transaction, or nothing. The caller makes the id, so that a repeat after a lost connection
-- finds the first one. A child never has a tool that its parent has not, and one that asks for none
-- has its parent's. Refusals: TR001, TR002, TR004 (budget), TR005 (input), TR006 (limit, tool).

create function bough_api.spawn(
  key uuid, parent_id uuid, task text, role text, budget bigint, driver text, program jsonb,
  repo_path text, base_commit text, target_branch text, runner_id uuid,
  timeout_s integer, max_depth integer, max_children integer, max_running integer
) returns table (id uuid, root_id uuid, depth_level integer, status text, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _depth integer := 0;
  _new record;
begin
  if spawn.budget is null or spawn.budget <= 0 then
    raise exception 'a budget of % tokens buys nothing; give at least 1', spawn.budget
      using errcode = 'TR005';
  elsif (spawn.task ~ '\S') is not true then
    raise exception 'the task is empty; say what the agent shall do' using errcode = 'TR005';
  elsif octet_length(spawn.task) > 100000 then
    raise exception 'the task has % bytes, at most 100000 fit; put it into a file',
      octet_length(spawn.task) using errcode = 'TR005';
  elsif least(spawn.max_depth, spawn.max_children, spawn.max_running - 1,
      spawn.timeout_s - 1) < 0 then
    raise exception 'limits count from 0 (depth, children) or 1 (running, timeout)'
      using errcode = 'TR005';
  end if;
  if spawn.parent_id is not null then
    -- A repeat must find the first one even when the parent has ended or is full by now; the
    -- lock makes one at the same time wait for it.
    select a.depth_level + 1 into _depth
      from bough.agents a where a.id = spawn.parent_id for no key update;
    if exists (select from bough.agents a where a.id = spawn.key) then
      return query select * from bough_api._spawned(spawn.key, spawn.parent_id, spawn.task);
      return;
    end if;
  end if;
  insert into bough.agents (id, parent_id, task, role, driver, program, runner_id, timeout_s,
    depth_limit, children_limit, running_limit)
  values (spawn.key, spawn.parent_id, spawn.task, spawn.role, spawn.driver,
    bough_api._equipped(spawn.parent_id, spawn.program), spawn.runner_id, spawn.timeout_s,
    _depth + spawn.max_depth, spawn.max_children, spawn.max_running)
  on conflict (id) do nothing returning root_id, depth_level into _new;
  if not found then
    return query select * from bough_api._spawned(spawn.key, spawn.parent_id, spawn.task);
    return;
  end if;
  insert into bough.budgets (agent_id, allocated) values (spawn.key, spawn.budget);
  if spawn.repo_path is not null then
    insert into bough.workspaces (agent_id, root_id, repo_path, base_commit, target_branch)
    values (spawn.key, _new.root_id, spawn.repo_path, spawn.base_commit, spawn.target_branch);
  end if;
  id := spawn.key;
  root_id := _new.root_id;
  depth_level := _new.depth_level;
  status := 'created';
  is_new := true;
  return next;
end $$;
comment on function bough_api.spawn is
  'Creates an agent under a parent, or a root; budget in tokens, timeout in seconds.';

create function bough_api._equipped(parent_id uuid, program jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _asked jsonb := _equipped.program -> 'tools';
  _may jsonb;
begin
  if _asked is not null and (jsonb_typeof(_asked) <> 'array'
      or jsonb_path_exists(_asked, 'strict $[*] ? (@.type() != "string")')) then
    raise exception 'tools are a list of names, like ["send", "edit"]' using errcode = 'TR005';
  end if;
  select a.program -> 'tools' into _may from bough.agents a where a.id = _equipped.parent_id;
  if _may is null then
    return _equipped.program;
  elsif _asked is null then
    return _equipped.program || jsonb_build_object('tools', _may);
  elsif not _asked <@ _may then
    raise exception 'tools limit: % has no %; a child has at most the tools of its parent',
      left(_equipped.parent_id::text, 8), (select string_agg(t, ', ')
        from jsonb_array_elements_text(_asked) t where not _may ? t)
      using errcode = 'TR006';
  end if;
  return _equipped.program;
end $$;
comment on function bough_api._equipped is
  'The program of a new agent with its tools: those it asks for, else those of its parent.';

create function bough_api._spawned(key uuid, parent_id uuid, task text)
returns table (id uuid, root_id uuid, depth_level integer, status text, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query select a.id, a.root_id, a.depth_level, a.status::text, false from bough.agents a
    where a.id = _spawned.key and a.task = _spawned.task
      and a.parent_id is not distinct from _spawned.parent_id;
  if not found then
    raise exception 'the id % belongs to another agent; make a new one', _spawned.key
      using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api._spawned is 'The answer to a repeated spawn: the first agent.';

create function bough_api.find(prefix text) returns table (id uuid)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _hex text := lower(replace(find.prefix, '-', ''));
  _found uuid[];
begin
  if _hex !~ '^[0-9a-f]{1,32}$' then
    raise exception '''%'' is not an id; ids are hexadecimal, see bough ps', left(find.prefix, 40)
      using errcode = 'TR001';
  end if;
  select array_agg(a.id) into _found from (
    select a.id from bough.agents a
     where a.id between rpad(_hex, 32, '0')::uuid and rpad(_hex, 32, 'f')::uuid
     order by a.id limit 4) a;
  if _found is null then
    raise exception 'no agent %; see bough ps --all', find.prefix using errcode = 'TR001';
  elsif cardinality(_found) > 1 then
    raise exception '''%'' is ambiguous: %; give more digits', find.prefix,
      (select string_agg(left(f::text, length(_hex) + 4), ', ') from unnest(_found) f)
      using errcode = 'TR008';
  end if;
  return query select _found[1];
end $$;
comment on function bough_api.find is 'The one agent whose id begins with these hex digits.';
