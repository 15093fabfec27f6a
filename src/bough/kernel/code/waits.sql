-- Waiting without a process: park, and what wakes.
--
-- A parked agent has the status waiting and a row in waits; no runner holds anything for it. park
-- looks and parks under the locks that its wakers take, so that no wake-up falls between the two.
-- Whoever makes a condition true marks the row, once; the next claim takes the agent up again.

create function bough_api.park(
  agent_id uuid, epoch bigint, for_messages boolean, for_children text, children uuid[],
  for_tokens bigint, for_approval uuid, seconds integer
) returns table (parked boolean, ready text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _agent record;
  _children uuid[] := coalesce(park.children, '{}');
  _ready text;
begin
  select a.root_id, a.status, a.lease_epoch into _agent
    from bough.agents a where a.id = park.agent_id for no key update;
  perform bough_api._hold(park.agent_id, park.epoch);
  if _agent.status <> 'running' then
    raise exception 'agent % is % and cannot park', left(park.agent_id::text, 8), _agent.status
      using errcode = 'TR003';
  end if;
  perform bough_api._check_wait(park.agent_id, park.for_messages, park.for_children, _children,
    park.for_tokens, park.for_approval, park.seconds);
  if park.for_children = 'any' and _children = '{}' then
    _children := array(select c.id from bough.agents c
      where c.parent_id = park.agent_id and c.completed_at is null);
  end if;
  perform from bough.budgets b where b.agent_id = park.agent_id and park.for_tokens is not null
    for no key update;
  perform from bough.approvals p where p.id = park.for_approval for no key update;
  if park.for_messages then
    perform pg_advisory_xact_lock(hashtextextended(park.agent_id::text, 4));
  end if;
  _ready := case
    when park.for_messages and exists (select from bough.mail_tails t
        left join bough.mail_heads h on h.root_id = t.root_id
          and h.recipient_id = t.recipient_id and h.priority = t.priority
      where t.root_id = _agent.root_id and t.recipient_id = park.agent_id
        -- What an earlier lease was given and did not acknowledge comes again.
        and t.last_seq > coalesce(case when h.lease_epoch = park.epoch then h.received_seq
          else h.acknowledged_seq end, 0)) then 'message'
    when bough_api._children_ended(park.agent_id, park.for_children, _children) then 'child'
    when (select b.available from bough.budgets b where b.agent_id = park.agent_id)
      >= park.for_tokens then 'budget'
    when exists (select from bough.approvals p where p.id = park.for_approval
      and (p.status <> 'pending' or p.expires_at <= bough.now())) then 'approval' end;
  if _ready is not null then
    return query select false, _ready;
    return;
  end if;
  insert into bough.waits (agent_id, root_id, for_messages, for_children, children, for_tokens,
    for_approval, until)
  values (park.agent_id, _agent.root_id, coalesce(park.for_messages, false), park.for_children,
    _children, park.for_tokens, park.for_approval,
    bough.now() + make_interval(secs => park.seconds));
  update bough.agents a set status = 'waiting', status_reason = 'for ' || concat_ws(', ',
    case when park.for_messages then 'messages' end, park.for_children || ' children',
    park.for_tokens || ' tokens', case when park.for_approval is not null then 'approval' end,
    park.seconds || ' s')
   where a.id = park.agent_id;
  -- Whoever parks has not died of its mail: only leases that end otherwise got it in vain.
  update bough.mail_heads h set deliveries = 0 where h.root_id = _agent.root_id
     and h.recipient_id = park.agent_id and h.deliveries > 0;
  return query select true, null::text;
end $$;
comment on function bough_api.park is
  'Sets an agent to waiting until something of this happens; or says what has happened already.';

create function bough_api._check_wait(
  agent_id uuid, for_messages boolean, for_children text, children uuid[], for_tokens bigint,
  for_approval uuid, seconds integer) returns void
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _stranger uuid;
begin
  if not coalesce(for_messages, false)
      and num_nonnulls(for_children, for_tokens, for_approval, seconds) = 0 then
    raise exception 'say what to wait for: messages, children, tokens, an approval or a time'
      using errcode = 'TR005';
  elsif seconds <= 0 or for_tokens <= 0 or for_children not in ('any', 'all')
      or (for_children is null and children <> '{}') then
    raise exception 'wait for any or all children, at least one token, at least one second'
      using errcode = 'TR005';
  elsif for_approval is not null and not exists (select from bough.approvals p
      where p.id = for_approval and p.agent_id = _check_wait.agent_id) then
    raise exception 'agent % has asked for no approval %', left(agent_id::text, 8),
      left(for_approval::text, 8) using errcode = 'TR016';
  end if;
  select n.id into _stranger from unnest(children) n (id) where not exists (
    select from bough.agents c where c.id = n.id and c.parent_id = _check_wait.agent_id) limit 1;
  if found then
    raise exception 'agent % is no child of %; wait for one by messages',
      left(_stranger::text, 8), left(agent_id::text, 8) using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api._check_wait is 'Refuses to wait for what can never happen.';

create function bough_api._wake_for_tokens(agent_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough.wake(w.agent_id, 'budget') from bough.waits w
    join bough.budgets b on b.agent_id = w.agent_id
    where w.agent_id = _wake_for_tokens.agent_id and w.woken_at is null
      and w.for_tokens <= b.available;
end $$;
comment on function bough_api._wake_for_tokens is 'Wakes who has the tokens it waits for.';

create function bough_api._woken(runner_id uuid, slots integer, only_root uuid) returns uuid[]
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return array(
    select a.id from bough.waits w join bough.agents a on a.id = w.agent_id
     where (w.woken_at is not null or w.woken_at is null and w.until <= bough.now())
       and a.status = 'waiting'
       and (only_root is null or a.root_id = only_root)
       and (a.runner_id = _woken.runner_id or not exists (
         select from bough.runners r where r.id = a.runner_id and r.expires_at > bough.now()))
       and (not a.under_running_limit or bough_api._full_for(a.id) is null)
     order by coalesce(w.woken_at, w.until) limit _woken.slots
       for no key update of a skip locked for update of w skip locked);
end $$;
comment on function bough_api._woken is
  'Locks parked agents that were woken; the runner that had one comes first while it lives.';

create function bough_api.request_approval(
  key uuid, agent_id uuid, epoch bigint, question text, expires_s integer, on_expiry text
) returns table (id uuid, status text, expires_at timestamptz, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(request_approval.agent_id, request_approval.epoch);
  _made integer;
begin
  if (request_approval.question ~ '\S' and octet_length(request_approval.question) <= 10240
      and expires_s between 1 and 31536000 and on_expiry in ('approved', 'rejected')) is not true
  then
    raise exception 'an approval has a question, expires within a year, approved or rejected'
      using errcode = 'TR005';
  elsif (select a.completed_at from bough.agents a where a.id = request_approval.agent_id)
      is not null then
    raise exception 'agent % has ended and asks no more', left(agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  insert into bough.approvals (id, root_id, agent_id, question, expires_at, on_expiry)
  values (key, _root_id, request_approval.agent_id, request_approval.question,
    bough.now() + make_interval(secs => expires_s), request_approval.on_expiry)
  on conflict do nothing;
  get diagnostics _made = row_count;
  return query select p.id, bough_api._decision(p.status, p.on_expiry, p.expires_at),
      p.expires_at, _made = 1
    from bough.approvals p where p.id = key and p.agent_id = request_approval.agent_id;
  if not found then
    raise exception 'the id % belongs to another approval; make a new one', key
      using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api.request_approval is
  'Asks a person; unanswered after expires_s seconds it becomes what on_expiry says.';

create function bough_api._decision(status text, on_expiry text, expires_at timestamptz)
returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  return case when status = 'pending' and expires_at <= bough.now() then on_expiry
    else status end;
end $$;
comment on function bough_api._decision is 'What an approval is now, expiry included.';

create function bough_api.approvals(only_id uuid, pending boolean)
returns table (id uuid, agent_id uuid, root_id uuid, role text, task text, question text,
  status text, on_expiry text, answer text, decided_by text, decided_at timestamptz,
  created_at timestamptz, expires_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select p.id, p.agent_id, p.root_id, a.role::text, a.task::text, p.question,
    bough_api._decision(p.status, p.on_expiry, p.expires_at), p.on_expiry::text, p.answer,
    case when p.status = 'pending' and p.expires_at <= bough.now() then 'expiry'
      else p.decided_by end, p.decided_at, p.created_at, p.expires_at
  from bough.approvals p join bough.agents a on a.id = p.agent_id
  where (approvals.only_id is null or p.id = approvals.only_id)
    and (not approvals.pending or p.status = 'pending' and p.expires_at > bough.now()
      and a.completed_at is null)
  order by p.expires_at, p.id;
end $$;
comment on function bough_api.approvals is
  'What agents have asked; pending: what still needs a person.';

create function bough_api.decide(approval_id uuid, approve boolean, answer text)
returns table (id uuid, agent_id uuid, status text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _known record;
begin
  if octet_length(to_jsonb(decide.answer)::text) > 8000 then
    raise exception 'the answer has % bytes, at most 8000 fit; send the path of a file',
      octet_length(to_jsonb(decide.answer)::text) using errcode = 'TR005';
  end if;
  -- Who asked does not end before it is told.
  perform from bough.agents a where a.id = (
    select p.agent_id from bough.approvals p where p.id = decide.approval_id) for share;
  return query update bough.approvals p
    set status = case when decide.approve then 'approved' else 'rejected' end,
      answer = decide.answer, decided_at = bough.now(),
      decided_by = coalesce(nullif(current_setting('bough.actor', true), ''), 'somebody')
   where p.id = decide.approval_id and p.status = 'pending' and p.expires_at > bough.now()
  returning p.id, p.agent_id, p.status::text;
  if not found then
    select bough_api._decision(p.status, p.on_expiry, p.expires_at) as status, p.decided_by
      into _known from bough.approvals p where p.id = decide.approval_id;
    if not found then
      raise exception 'no approval %; see bough approvals', left(approval_id::text, 8)
        using errcode = 'TR016';
    end if;
    raise exception 'approval % was % before, by %', left(approval_id::text, 8), _known.status,
      coalesce(_known.decided_by, 'expiry') using errcode = 'TR017';
  end if;
  perform bough_api._tell_decision(decide.approval_id);
end $$;
comment on function bough_api.decide is 'A person approves or rejects what an agent asked.';

create function bough_api._tell_decision(approval_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  perform bough_api._tell_outcomes('{}', array[_tell_decision.approval_id]);
  perform bough.wake(w.agent_id, 'approval') from bough.waits w
    where w.for_approval = _tell_decision.approval_id and w.woken_at is null;
end $$;
comment on function bough_api._tell_decision is 'Writes a decision to who asked, and wakes it.';
