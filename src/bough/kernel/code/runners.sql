-- Runners: who they are, that they live, and which agents they take.
--
-- A runner that stops beating for lease_s seconds loses its agents: others claim them under a
-- higher epoch, and whatever the old one still says is refused. claim never waits for a lock.

create function bough_api.enroll(
  runner_id uuid, host text, pid integer, process_start text, boot_id text,
  slots integer, lease_s integer
) returns void
language plpgsql security definer set search_path = '' as $$
begin
  insert into bough.runners (id, host, pid, process_start, boot_id, slots, lease_s, expires_at)
  values (runner_id, host, pid, process_start, boot_id, slots, lease_s,
    bough.now() + make_interval(secs => lease_s));
  perform bough_api.listen('bough_runner_' || runner_id::text, runner_id::text, lease_s * 2);
end $$;
comment on function bough_api.enroll is 'Makes a runner known; it must beat every lease_s seconds.';

create function bough_api.heartbeat(runner_id uuid, wants_work boolean)
returns table (id uuid, lease_epoch bigint, status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _lease_s integer;
begin
  update bough.runners r set expires_at = bough.now() + make_interval(secs => r.lease_s)
   where r.id = heartbeat.runner_id and r.retired_at is null and r.expires_at > r.created_at
   returning r.lease_s into _lease_s;
  if not found then
    raise exception 'runner % is retired; start a new one', left(runner_id::text, 8)
      using errcode = 'TR009';
  end if;
  -- Two that come back after a long sleep must not wait for each other.
  update bough.runners r set retired_at = bough.now() where r.id in (
    select o.id from bough.runners o
     where o.retired_at is null and o.expires_at < bough.now() - interval '1 hour'
       and not exists (select from bough.agents a
         where a.runner_id = o.id and a.completed_at is null)
       for no key update skip locked);
  perform bough_api._mind_budgets(runner_id);
  perform bough_api._mind_mail();
  perform bough_api.listen('bough_runner_' || runner_id::text, runner_id::text, _lease_s * 2);
  perform bough_api.listen('bough_queue', runner_id::text,
    case when wants_work then _lease_s * 2 else 0 end);
  return query select a.id, a.lease_epoch, a.status::text from bough.agents a
    where a.runner_id = heartbeat.runner_id and (a.status = 'running'
      or a.status = 'paused' and a.paused_from <> 'waiting');
end $$;
comment on function bough_api.heartbeat is
  'Keeps the lease of a runner and tells which agents it holds; of the parked it holds none.';

create function bough_api._mind_budgets(runner_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- Neither waits for a lock; what is in use now is found at the next beat.
  update bough.agents a set status = 'paused',
    status_reason = 'budget overdrawn; grant, unfreeze, then resume'
   where a.id in (
     select o.id from bough.agents o join bough.budgets b on b.agent_id = o.id
      where o.runner_id = _mind_budgets.runner_id and o.status in ('running', 'waiting')
        and b.frozen_reason = 'overdraft' for no key update of o skip locked);
  for _account in 1 .. 10 loop
    exit when not exists (select from bough_api.expire());
  end loop;
end $$;
comment on function bough_api._mind_budgets is
  'Stops agents of a runner that are overdrawn; charges calls that nobody settled in time.';

create function bough_api.retire(runner_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- While it holds agents, claim must still find it; a lease of no length is never renewed.
  update bough.runners r set expires_at = r.created_at,
    retired_at = case when not exists (
      select from bough.agents a where a.runner_id = retire.runner_id
         and a.status in ('created', 'running', 'paused', 'waiting')) then bough.now() end
   where r.id = retire.runner_id and r.retired_at is null;
  delete from bough.listeners l where l.listener = retire.runner_id::text;
  perform bough.hint('bough_queue');
end $$;
comment on function bough_api.retire is 'Ends a runner; agents it still holds are free at once.';

create function bough_api._running_below(agent_id uuid) returns bigint
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return (select count(*) from bough.agents a
    where (a.status = 'running' or a.paused_from = 'running')
      and (a.id = _running_below.agent_id or a.id in (
        select h.child_id from bough.hierarchies h where h.parent_id = _running_below.agent_id
           and h.root_id = (select r.root_id from bough.agents r where r.id = agent_id))));
end $$;
comment on function bough_api._running_below is 'How many agents of a subtree hold a place.';

create function bough_api._full_for(agent_id uuid) returns uuid
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _limited uuid[] := array(
    select a.id from bough.agents a where a.running_limit is not null
       and (a.id = _full_for.agent_id or a.id in (select h.parent_id from bough.hierarchies h
         where h.child_id = _full_for.agent_id and h.root_id =
           (select r.root_id from bough.agents r where r.id = _full_for.agent_id)))
     order by a.depth_level);
  _id uuid;
begin
  -- The locks make two claims under one limit exclude each other; nobody waits for them.
  foreach _id in array _limited loop
    perform from bough.agents a where a.id = _id for no key update skip locked;
    if not found or bough_api._running_below(_id) >=
        (select a.running_limit from bough.agents a where a.id = _id) then
      return _id;
    end if;
  end loop;
  return null;
end $$;
comment on function bough_api._full_for is 'The limit that keeps an agent in line, or null.';

create function bough_api._in_line(
  runner_id uuid, slots integer, only_root uuid, full_limits uuid[]) returns uuid[]
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return array(
    select a.id from bough.agents a
     where a.status = 'created' and (only_root is null or a.root_id = only_root)
       and (a.runner_id is null or a.runner_id = _in_line.runner_id or not exists (
         select from bough.runners r where r.id = a.runner_id and r.expires_at > bough.now()))
       and (not a.under_running_limit or a.id <> all (full_limits) and not exists (
         select from bough.hierarchies h where h.root_id = a.root_id and h.child_id = a.id
            and h.parent_id = any (full_limits)))
     order by a.created_at, a.id limit _in_line.slots for no key update of a skip locked);
end $$;
comment on function bough_api._in_line is 'Locks the next agents that a runner may start.';

create function bough_api.claim(runner_id uuid, slots integer, only_root uuid)
returns table (id uuid, root_id uuid, parent_id uuid, lease_epoch bigint, role text, task text,
  driver text, program jsonb, timeout_s integer, started_at timestamptz, allocated bigint,
  available bigint, repo_path text, base_commit text, worktree_path text, branch_name text,
  isolation_status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _full uuid[] := '{}'::uuid[];
  _taken uuid[];
  _next uuid[];
  _id uuid;
  _limit uuid;
begin
  perform from bough.runners r where r.id = claim.runner_id and r.retired_at is null
     and r.expires_at > bough.now() for key share;
  if not found then
    raise exception 'runner % has lost its lease; start a new one', left(runner_id::text, 8)
      using errcode = 'TR009';
  end if;
  _taken := array(
    select a.id from bough.runners d join bough.agents a on a.runner_id = d.id
     where d.expires_at <= bough.now() and d.retired_at is null and a.status = 'running'
       and (only_root is null or a.root_id = only_root)
     order by a.started_at limit claim.slots for no key update of a skip locked);
  perform bough_api._take(_id_of_old, runner_id) from unnest(_taken) _id_of_old;
  foreach _id in array bough_api._woken(
      runner_id, claim.slots - cardinality(_taken), only_root) loop
    -- One that was woken as well may have the last place by now.
    continue when (select a.under_running_limit from bough.agents a where a.id = _id)
      and bough_api._full_for(_id) is not null;
    perform bough_api._take(_id, runner_id);
    _taken := _taken || _id;
  end loop;
  while cardinality(_taken) < claim.slots loop
    _next := bough_api._in_line(
      claim.runner_id, claim.slots - cardinality(_taken), only_root, _full);
    exit when _next = '{}';
    foreach _id in array _next loop
      _limit := case when (select a.under_running_limit from bough.agents a where a.id = _id)
        then bough_api._full_for(_id) end;
      if _limit is null then
        perform bough_api._take(_id, runner_id);
        _taken := _taken || _id;
      else
        _full := _full || _limit;
      end if;
    end loop;
  end loop;
  return query select a.id, a.root_id, a.parent_id, a.lease_epoch, a.role::text, a.task::text,
      a.driver::text, a.program, a.timeout_s::integer, a.started_at, b.allocated::bigint,
      b.available, w.repo_path, w.base_commit::text, w.worktree_path, w.branch_name,
      w.isolation_status::text
    from unnest(_taken) with ordinality t (id, place)
    join bough.agents a on a.id = t.id
    left join bough.budgets b on b.agent_id = a.id
    left join bough.workspaces w on w.agent_id = a.id
    order by t.place;
end $$;
comment on function bough_api.claim is
  'Takes up to slots agents: what dead runners left, what was woken, then the line.';

create function bough_api._take(agent_id uuid, runner_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  update bough.agents a set status = 'running', runner_id = _take.runner_id,
    lease_epoch = a.lease_epoch + 1, status_reason = null where a.id = _take.agent_id;
  delete from bough.waits w where w.agent_id = _take.agent_id;
  insert into bough.attempts (agent_id, root_id, lease_epoch, runner_id)
  select a.id, a.root_id, a.lease_epoch, a.runner_id from bough.agents a
   where a.id = _take.agent_id;
end $$;
comment on function bough_api._take is 'Gives a locked agent to a runner, under the next epoch.';

create function bough_api.record_program(
  agent_id uuid, epoch bigint, pid integer, process_start text, boot_id text) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(record_program.agent_id, record_program.epoch);
begin
  update bough.attempts t set pid = record_program.pid, boot_id = record_program.boot_id,
    process_start = record_program.process_start, program_started_at = bough.now()
   where t.agent_id = record_program.agent_id and t.lease_epoch = record_program.epoch;
  insert into bough.events (root_id, agent_id, name, data) values (_root_id,
    record_program.agent_id, 'program.started', jsonb_build_object('pid', pid, 'epoch', epoch));
end $$;
comment on function bough_api.record_program is
  'Notes the process of an attempt, so that a later runner can find what was left.';

create function bough_api.strays(boot_id text)
returns table (agent_id uuid, pid integer, process_start text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query select t.agent_id, t.pid, t.process_start
    from bough.attempts t join bough.runners r on r.id = t.runner_id
   where t.boot_id = strays.boot_id and r.expires_at <= bough.now() and t.pid is not null
     and t.claimed_at > bough.now() - interval '7 days';
end $$;
comment on function bough_api.strays is
  'Processes that dead runners may have left on the machine that booted as boot_id.';
