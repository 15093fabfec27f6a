-- How agents end, pause and go on.
--
-- Every change locks the parent first, then the agent, then its living descendants level by level:
-- a spawn below holds its parent's row, so no child can slip in under an agent that ends. All of a
-- subtree ends in one transaction, deepest first; triggers hand the budgets back on the way.

create function bough_api._lock_living(agent_id uuid) returns uuid[]
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _level uuid[];
  _all uuid[] := '{}'::uuid[];
begin
  perform from bough.agents p join bough.agents a on a.parent_id = p.id
    where a.id = _lock_living.agent_id for no key update of p;
  select array_agg(l.id) into _level from (
    select a.id from bough.agents a where a.id = _lock_living.agent_id and a.completed_at is null
       for no key update) l;
  while _level is not null loop
    _all := _all || _level;
    select array_agg(l.id) into _level from (
      select a.id from bough.agents a where a.parent_id = any (_level) and a.completed_at is null
       order by a.id for no key update) l;
  end loop;
  if _all = '{}' and not exists (
      select from bough.agents a where a.id = _lock_living.agent_id) then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  end if;
  return _all;
end $$;
comment on function bough_api._lock_living is
  'Locks an agent and its living descendants; their ids, top-down, empty when it has ended.';

create function bough_api._end_descendants(living uuid[], reason text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  for _i in reverse cardinality(living) .. 2 loop
    update bough.agents set status = 'terminated', status_reason = _end_descendants.reason
     where id = living[_i];
  end loop;
end $$;
comment on function bough_api._end_descendants is 'Terminates all but the first, deepest first.';

create function bough_api.terminate(agent_id uuid, reason text)
returns table (id uuid, runner_id uuid)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(terminate.agent_id);
  _status text;
begin
  if _living = '{}' then
    select a.status into _status from bough.agents a where a.id = terminate.agent_id;
    if _status <> 'terminated' then
      raise exception 'agent % has already %', left(agent_id::text, 8), _status
        using errcode = 'TR002';
    end if;
    return;
  end if;
  perform bough_api._end_descendants(_living, 'ancestor terminated');
  update bough.agents a set status = 'terminated', status_reason = terminate.reason
   where a.id = terminate.agent_id;
  perform bough_api._tell_parent(terminate.agent_id);
  return query select a.id, a.runner_id from bough.agents a where a.id = any (_living)
    order by a.depth_level;
end $$;
comment on function bough_api.terminate is
  'Ends an agent and all below it; the ids ended. Repeating it is harmless.';

create function bough_api._finish(
  agent_id uuid, epoch bigint, status text, result jsonb, error_code text, error_message text
) returns table (accepted boolean, current_status text, current_epoch bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(_finish.agent_id);
  _agent record;
  _said record;
begin
  select a.root_id, a.status, a.lease_epoch, a.paused_from into _agent
    from bough.agents a where a.id = _finish.agent_id;
  -- What the agent itself said of its end counts for more than how its program ended.
  select t.result, t.error_message, t.error_code into _said from bough.attempts t
   where t.agent_id = _finish.agent_id and t.lease_epoch = _finish.epoch;
  if _said.error_message is not null then
    _finish.status := 'failed';
    _finish.error_code := coalesce(_said.error_code, 'agent_failed');
    _finish.error_message := _said.error_message;
  end if;
  if _agent.lease_epoch <> _finish.epoch or _living = '{}' then
    if _agent.lease_epoch <> _finish.epoch or _agent.status <> _finish.status then
      -- Too late: somebody else decided. What came is kept, never applied.
      insert into bough.events (root_id, agent_id, name, data)
      values (_agent.root_id, _finish.agent_id, 'agent.late_result', jsonb_strip_nulls(
        jsonb_build_object('epoch', _finish.epoch, 'status', _finish.status,
          'result', _finish.result, 'code', _finish.error_code,
          'message', _finish.error_message)));
      return query select false, _agent.status::text, _agent.lease_epoch;
    else
      return query select true, _agent.status::text, _agent.lease_epoch;
    end if;
    return;
  end if;
  perform bough_api._end_descendants(_living, 'parent ' || _finish.status);
  if _agent.status = 'paused' then
    -- Its program had ended before the pause reached it.
    update bough.agents a set status = a.paused_from, status_reason = 'ended while being paused'
     where a.id = _finish.agent_id;
  end if;
  update bough.agents a set status = _finish.status, status_reason = _finish.error_code,
    result = coalesce(_said.result, _finish.result), error_code = _finish.error_code,
    error_message = left(_finish.error_message, 10000)
   where a.id = _finish.agent_id;
  perform bough_api._tell_parent(_finish.agent_id);
  return query select true, _finish.status, _agent.lease_epoch;
end $$;
comment on function bough_api._finish is
  'Ends an agent for the runner that holds it; a repeat gives the first answer.';

create function bough_api.complete(agent_id uuid, epoch bigint, result jsonb)
returns table (accepted boolean, current_status text, current_epoch bigint)
language plpgsql security definer set search_path = '' as $$
begin
  return query select * from bough_api._finish(agent_id, epoch, 'completed', result, null, null);
end $$;
comment on function bough_api.complete is
  'The agent did its task; what lives below it ends, the budget goes back.';

create function bough_api.fail(
  agent_id uuid, epoch bigint, error_code text, error_message text, result jsonb)
returns table (accepted boolean, current_status text, current_epoch bigint)
language plpgsql security definer set search_path = '' as $$
begin
  return query select * from
    bough_api._finish(agent_id, epoch, 'failed', result, error_code, error_message);
end $$;
comment on function bough_api.fail is
  'The agent could not do its task, and why; what lives below it ends, the budget goes back.';

create function bough_api.pause(agent_id uuid, reason text)
returns table (id uuid, status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(pause.agent_id);
begin
  if _living = '{}' then
    raise exception 'agent % has ended and cannot be paused', left(agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  return query update bough.agents a set status = 'paused', status_reason = pause.reason
    where a.id = any (_living) and a.status <> 'paused' returning a.id, a.status::text;
end $$;
comment on function bough_api.pause is 'Holds an agent and all below it; the ones newly held.';

create function bough_api.resume(agent_id uuid) returns table (id uuid, status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(resume.agent_id);
begin
  if _living = '{}' then
    raise exception 'agent % has ended and cannot go on', left(agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  return query update bough.agents a set status = a.paused_from, status_reason = 'resumed'
    where a.id = any (_living) and a.status = 'paused' returning a.id, a.status::text;
end $$;
comment on function bough_api.resume is 'Lets a paused agent and all paused below it go on.';

create function bough_api.report(agent_id uuid, epoch bigint, progress double precision, note text)
returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(report.agent_id, report.epoch);
begin
  if report.progress not between 0 and 1 then
    raise exception 'progress is a fraction from 0 to 1, not %', report.progress
      using errcode = 'TR005';
  end if;
  update bough.agents a set progress = coalesce(report.progress, a.progress),
    progress_note = left(report.note, 500)
   where a.id = report.agent_id and a.completed_at is null;
  if not found then
    raise exception 'agent % has ended and reports no more', left(agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  insert into bough.events (root_id, agent_id, name, data) values (_root_id, report.agent_id,
    'agent.reported', jsonb_build_object('progress', report.progress, 'note', report.note));
end $$;
comment on function bough_api.report is 'Notes how far the agent is: a fraction and a line.';

create function bough_api._hold(agent_id uuid, epoch bigint) returns uuid
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _agent record;
begin
  select a.root_id, a.lease_epoch into _agent from bough.agents a where a.id = _hold.agent_id;
  if not found then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  elsif _agent.lease_epoch <> _hold.epoch then
    raise exception 'agent % is under lease %, this is %: another runner has taken it over',
      left(agent_id::text, 8), _agent.lease_epoch, epoch using errcode = 'TR007';
  end if;
  return _agent.root_id;
end $$;
comment on function bough_api._hold is 'The root of an agent, if the caller still holds it.';
