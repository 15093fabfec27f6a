-- What a program inside an agent may do: tokens, and what it says of its own end.
--
-- A token belongs to one attempt of one agent and dies with either. Only its hash is stored. What a
-- token may touch is its own agent and all below it; an agent's place in the tree never changes, so
-- the answer of admit stays true. spender answers for a model call, and tells a program whose agent
-- has ended from a stranger. Refusals: TR002 (ended), TR005 (input), TR007 (stale), TR018 (no such
-- token), TR019 (not yours).

create function bough_api.issue_token(agent_id uuid, epoch bigint, token_hash bytea) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._hold(issue_token.agent_id, issue_token.epoch);
  update bough.attempts t set token_hash = issue_token.token_hash
   where t.agent_id = issue_token.agent_id and t.lease_epoch = issue_token.epoch;
end $$;
comment on function bough_api.issue_token is 'Gives this attempt a token, by its SHA-256.';

create function bough_api.admit(token_hash bytea, target_id uuid)
returns table (agent_id uuid, root_id uuid, parent_id uuid, lease_epoch bigint, status text,
  tools text[])
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _who record;
begin
  select a.id, a.root_id, a.parent_id, a.lease_epoch, a.status, a.program -> 'tools' as tools
    into _who
    from bough.attempts t join bough.agents a on a.id = t.agent_id
     and a.lease_epoch = t.lease_epoch
   where t.token_hash = admit.token_hash and a.completed_at is null;
  if not found then
    raise exception 'the token is not valid: its agent has ended, was taken over, or never was'
      using errcode = 'TR018';
  elsif target_id <> _who.id and not exists (select from bough.hierarchies h
      where h.root_id = _who.root_id and h.parent_id = _who.id and h.child_id = target_id) then
    raise exception 'agent % is not below %; an agent acts on itself and what it spawned',
      left(target_id::text, 8), left(_who.id::text, 8) using errcode = 'TR019';
  end if;
  return query select _who.id, _who.root_id, _who.parent_id, _who.lease_epoch, _who.status::text,
    case when _who.tools is not null then
      array(select jsonb_array_elements_text(_who.tools)) end;
end $$;
comment on function bough_api.admit is
  'Whose token it is; with a target, only if that is the agent or below it. No tools: all.';

create function bough_api.spender(token_hash bytea)
returns table (agent_id uuid, allocated bigint, available bigint)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _who record;
begin
  select a.id, a.status, a.completed_at, a.lease_epoch, t.lease_epoch as epoch,
      b.allocated, b.available into _who
    from bough.attempts t join bough.agents a on a.id = t.agent_id
    join bough.budgets b on b.agent_id = a.id
   where t.token_hash = spender.token_hash;
  if not found then
    raise exception 'the token is not valid: no agent was ever given it' using errcode = 'TR018';
  elsif _who.completed_at is not null then
    raise exception 'agent % has % and spends no more', left(_who.id::text, 8), _who.status
      using errcode = 'TR002';
  elsif _who.lease_epoch <> _who.epoch then
    raise exception 'agent % is under lease % now, this token is of %', left(_who.id::text, 8),
      _who.lease_epoch, _who.epoch using errcode = 'TR007';
  end if;
  return query select _who.id, _who.allocated::bigint, _who.available::bigint;
end $$;
comment on function bough_api.spender is
  'Whose tokens a program spends, and what is there; tells one that has ended from a stranger.';

create function bough_api.finish(
  agent_id uuid, epoch bigint, result jsonb, error_message text, error_code text) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _status text;
begin
  -- The lock makes the end of the agent wait for this, or be seen here.
  select a.status into _status
    from bough.agents a where a.id = finish.agent_id for no key update;
  perform bough_api._hold(finish.agent_id, finish.epoch);
  if bough.has_ended(_status) then
    raise exception 'agent % has % and says no more', left(agent_id::text, 8), _status
      using errcode = 'TR002';
  elsif finish.error_code is not null and finish.error_message is null
      or finish.error_code !~ '^[a-z][a-z_]{0,99}$' then
    raise exception 'a failure has a message, and a code like budget_exceeded'
      using errcode = 'TR005';
  elsif octet_length(finish.result::text) > 1000000 then
    raise exception 'the result has % bytes, at most 1000000 fit; commit it as a file',
      octet_length(finish.result::text) using errcode = 'TR005';
  end if;
  update bough.attempts t set result = finish.result,
    error_message = left(finish.error_message, 10000), error_code = finish.error_code
   where t.agent_id = finish.agent_id and t.lease_epoch = finish.epoch;
end $$;
comment on function bough_api.finish is
  'What the agent says its result is, or why it failed; holds when its program has ended.';
