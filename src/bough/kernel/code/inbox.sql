-- Reading mail without receiving it, the kernel's own messages, and what time does to mail.
--
-- inbox changes nothing. When a child ends, its parent is told in the same transaction, even when
-- its mailbox is full. What nobody answered in time is told to who asked, at a heart-beat.

create function bough_api.inbox(agent_id uuid, page integer)
returns table (id uuid, seq bigint, sender_id uuid, recipient_id uuid, root_id uuid, type text,
  priority text, status text, thread_id uuid, reply_to uuid, reply_by timestamptz, actor text,
  payload jsonb, created_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _recipient constant uuid := coalesce(inbox.agent_id, '00000000-0000-0000-0000-000000000000');
begin
  return query
  select m.id, m.seq, m.sender_id, m.recipient_id, m.root_id, m.type::text, m.priority::text,
    case when m.seq <= h.received_seq then 'delivered' else 'queued' end, m.thread_id, m.reply_to,
    m.reply_by, m.actor, m.payload::jsonb, m.created_at
  from bough.mail_tails t
  left join bough.mail_heads h on h.root_id = t.root_id and h.recipient_id = t.recipient_id
    and h.priority = t.priority
  join bough.messages m on m.root_id = t.root_id and m.recipient_id = t.recipient_id
    and m.priority = t.priority and m.seq > coalesce(h.acknowledged_seq, 0)
  where t.recipient_id = _recipient
    and (inbox.agent_id is null or t.root_id = (select a.root_id from bough.agents a
      where a.id = inbox.agent_id))
    and m.status = 'queued' and m.seq <> all (coalesce(h.ahead, '{}'))
    and (m.expires_at is null or m.expires_at > bough.now())
  order by array_position(array['critical', 'high', 'normal', 'low'], m.priority::text),
    m.created_at, m.seq limit inbox.page;
end $$;
comment on function bough_api.inbox is
  'What is not acknowledged, first to last; of an agent, or (null) of the operator in all trees.';

create function bough_api.thread(message_id uuid)
returns table (id uuid, seq bigint, sender_id uuid, recipient_id uuid, type text, payload jsonb,
  created_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select m.id, m.seq, m.sender_id, m.recipient_id, m.type::text, m.payload::jsonb, m.created_at
    from bough.messages m,
      (select coalesce(f.thread_id, f.id) as first from bough.messages f
        where f.id = thread.message_id) f
   where m.id = f.first or m.thread_id = f.first order by m.created_at, m.seq;
end $$;
comment on function bough_api.thread is 'A conversation: its first message and all replies.';

create function bough_api._tell_parent(agent_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _child record;
  _news jsonb;
begin
  select a.parent_id, a.status, a.result, jsonb_strip_nulls(jsonb_build_object(
      'agent_id', a.id, 'role', a.role, 'status', a.status,
      'reason', left(a.status_reason, 200), 'error_code', left(a.error_code, 200),
      'error', left(a.error_message, 500))) as news
    into _child from bough.agents a where a.id = _tell_parent.agent_id;
  if _child.parent_id is null or exists (select from bough.agents p
      where p.id = _child.parent_id and p.completed_at is not null) then
    return;
  end if;
  -- Whatever a child said of itself, this message fits: else it could not end.
  _news := _child.news || jsonb_build_object('result', _child.result);
  if _child.result is null or octet_length(_news::text) > 10240 then
    _news := _child.news || case when _child.result is null then '{}'::jsonb
      else jsonb_build_object('result_left_out', true) end;
  end if;
  insert into bough.messages (recipient_id, type, priority, payload)
  values (_child.parent_id, 'child.' || _child.status, 'high', _news);
  perform bough.wake(w.agent_id, 'child') from bough.waits w
    where w.agent_id = _child.parent_id and w.woken_at is null
      and bough_api._children_ended(w.agent_id, w.for_children, w.children);
  perform bough_api._wake_for_tokens(_child.parent_id);
end $$;
comment on function bough_api._tell_parent is
  'Writes to the parent that a child has ended, with status and result, and wakes it.';

create function bough_api._children_ended(agent_id uuid, how text, children uuid[])
returns boolean
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return case how
    when 'all' then not exists (select from bough.agents a
      where a.parent_id = _children_ended.agent_id and a.completed_at is null
        and (_children_ended.children = '{}' or a.id = any (_children_ended.children)))
    when 'any' then exists (select from bough.agents a
        where a.parent_id = _children_ended.agent_id and a.completed_at is not null
          and a.id = any (_children_ended.children))
      or not exists (select from bough.agents a
        where a.parent_id = _children_ended.agent_id and a.completed_at is null)
    else false end;
end $$;
comment on function bough_api._children_ended is
  'Whether what an agent waits for from its children (any or all of some) has happened.';

create function bough_api._mind_mail() returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _most constant integer := 100;
  _requests uuid[];
  _approvals uuid[];
begin
  -- What is in use now is found at the next beat: only mailboxes are waited for, all of them in
  -- one statement, before any lock that their senders take after them. Whose agent is locked
  -- does not end before it is told.
  _requests := array(
    select m.id from bough.messages m join bough.agents a on a.id = m.sender_id
     where m.answered_at is null and m.reply_by <= bough.now() order by m.reply_by limit _most
       for no key update of m skip locked for share of a skip locked)
    || array(select m.id from bough.messages m
     where m.answered_at is null and m.reply_by <= bough.now() and m.sender_id is null
     limit _most for no key update skip locked);
  _approvals := array(
    select p.id from bough.approvals p join bough.agents a on a.id = p.agent_id
     where p.status = 'pending' and p.expires_at <= bough.now() order by p.expires_at limit _most
       for no key update of p skip locked for share of a skip locked);
  update bough.messages m set answered_at = bough.now() where m.id = any (_requests);
  update bough.approvals p set status = p.on_expiry, decided_by = 'expiry',
    decided_at = bough.now() where p.id = any (_approvals);
  perform bough_api._tell_outcomes(_requests, _approvals);
  perform bough.wake(w.agent_id, w.by) from (
    select w.agent_id, case when w.for_tokens <= b.available then 'budget' else 'approval' end by
      from bough.waits w join bough.budgets b on b.agent_id = w.agent_id
     where w.woken_at is null and (w.for_tokens is not null or w.for_approval is not null)
       and (w.for_tokens <= b.available or exists (
       select from bough.approvals p where p.id = w.for_approval and p.status <> 'pending'))
       for no key update of w skip locked) w;
end $$;
comment on function bough_api._mind_mail is
  'Tells who asked that nobody answered in time; decides approvals that have expired.';

create function bough_api._tell_outcomes(requests uuid[], approvals uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- By recipient, as every call that writes to several mailboxes.
  insert into bough.messages (recipient_id, type, priority, payload, reply_to, thread_id)
  select t.* from (
    select m.sender_id as recipient_id, 'request.expired' as type, 'normal' as priority,
        jsonb_build_object('message_id', m.id), m.id, coalesce(m.thread_id, m.id)
      from bough.messages m join bough.agents a on a.id = m.sender_id
     where m.id = any (requests) and a.completed_at is null
    union all
    select p.agent_id, 'approval.' || p.status, 'high', jsonb_strip_nulls(jsonb_build_object(
        'approval_id', p.id, 'answer', p.answer, 'by', left(p.decided_by, 200))), null, null
      from bough.approvals p join bough.agents a on a.id = p.agent_id
     where p.id = any (approvals) and a.completed_at is null) t
   order by t.recipient_id, t.priority;
end $$;
comment on function bough_api._tell_outcomes is
  'Writes to living agents what became of their requests (nobody answered) and approvals.';

create function bough_api.purge_mail(older_than_s integer, most integer)
returns table (count bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  delete from bough.messages m where m.id in (
    select o.id from bough.messages o
    left join bough.mail_heads h on h.root_id = o.root_id and h.recipient_id = o.recipient_id
      and h.priority = o.priority
    left join bough.agents a on a.id = o.recipient_id
     where o.created_at < bough.now() - make_interval(secs => purge_mail.older_than_s)
       and (o.status <> 'queued' or o.seq <= h.acknowledged_seq or a.completed_at is not null)
     limit purge_mail.most);
  get diagnostics count = row_count;
  return next;
end $$;
comment on function bough_api.purge_mail is
  'Deletes old mail that is done with: acknowledged, dead, or of an agent that has ended.';
