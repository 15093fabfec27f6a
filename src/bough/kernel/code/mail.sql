-- Mail: send, broadcast, receive, acknowledge.
--
-- send numbers under the lock of the recipient's lane, so FIFO holds per lane in commit order.
-- receive returns, higher lanes first, what is new and what an earlier lease was given and never
-- acknowledged, in the same order. acknowledge moves the receiver's own offsets. A message that
-- five leases in a row were given in vain becomes a dead letter and no longer blocks the lane.
-- Refusals: TR001, TR002 (recipient ended), TR005 (input), TR007 (stale), TR015 (full).

create function bough_api.send(
  key uuid, sender_id uuid, recipient_id uuid, type text, payload jsonb, priority text,
  reply_to uuid, reply_within_s integer, expires_s integer
) returns table (id uuid, seq bigint, recipient uuid, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _to uuid := send.recipient_id;
  _thread uuid;
begin
  perform bough_api._check_mail(send.payload, send.reply_within_s, send.expires_s);
  -- The same key twice at once: the second waits, and finds the first.
  perform pg_advisory_xact_lock(hashtextextended(send.key::text, 5));
  if send.reply_to is not null then
    -- A request is locked before any mailbox, as by who tells that nobody answered.
    perform from bough.messages m where m.id = send.reply_to and m.reply_by is not null
       and m.answered_at is null for no key update;
    -- Who replies to the operator or to the kernel writes to the operator.
    select coalesce(_to, m.sender_id), coalesce(m.thread_id, m.id) into _to, _thread
      from bough.messages m where m.id = send.reply_to;
    if not found then
      raise exception 'no message %; see bough inbox', left(send.reply_to::text, 8)
        using errcode = 'TR016';
    end if;
  end if;
  _to := coalesce(_to, '00000000-0000-0000-0000-000000000000'::uuid);
  if send.sender_id is null and _to = '00000000-0000-0000-0000-000000000000' then
    raise exception 'say whom the message is for' using errcode = 'TR005';
  end if;
  return query insert into bough.messages as m (id, sender_id, recipient_id, type, payload,
      priority, reply_to, thread_id, reply_by, expires_at)
    select send.key, send.sender_id, _to, send.type, send.payload, send.priority, send.reply_to,
      _thread, bough.now() + make_interval(secs => send.reply_within_s),
      bough.now() + make_interval(secs => send.expires_s)
     where not exists (select from bough.messages o where o.id = send.key)
    returning m.id, m.seq, m.recipient_id, true;
  if found then
    update bough.messages m set answered_at = bough.now()
     where m.id = send.reply_to and m.answered_at is null and m.reply_by is not null;
    return;
  end if;
  return query select m.id, m.seq, m.recipient_id, false from bough.messages m
    where m.id = send.key and m.sender_id is not distinct from send.sender_id;
  if not found then
    raise exception 'the id % belongs to another message; make a new one', send.key
      using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api.send is
  'Puts a message into a mailbox (recipient null: the operator''s, or whoever is replied to).';

create function bough_api._check_mail(
  payload jsonb, reply_within_s integer, expires_s integer) returns void
language plpgsql immutable security definer set search_path = '' as $$
begin
  if payload is null then
    raise exception 'a message has a payload; {} if there is nothing to say'
      using errcode = 'TR005';
  elsif octet_length(payload::text) > 10240 then
    raise exception 'the payload has % bytes, at most 10240 fit; send the path of a file',
      octet_length(payload::text) using errcode = 'TR005';
  elsif least(reply_within_s, expires_s) <= 0 then
    raise exception 'a time to reply or to expire is at least 1 second' using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api._check_mail is 'Refuses what cannot be a message.';

create function bough_api.send_many(
  sender_id uuid, recipient_id uuid, type text, payloads jsonb[], priority text
) returns table (first_seq bigint, last_seq bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _count constant integer := cardinality(payloads);
  _longest integer := (select max(octet_length(p::text)) from unnest(payloads) p);
  _first record;
  _last bigint;
begin
  if (_count between 1 and 1000 and _longest <= 10240) is not true then
    raise exception '1 to 1000 messages of at most 10240 bytes go at once, not % of up to %',
      coalesce(_count, 0), coalesce(_longest, 0) using errcode = 'TR005';
  end if;
  -- The first one checks and locks; the rest take the numbers after it, under the same lock.
  insert into bough.messages as m (sender_id, recipient_id, type, payload, priority)
  values (send_many.sender_id, send_many.recipient_id, send_many.type, payloads[1],
    send_many.priority)
  returning m.root_id, m.seq into _first;
  update bough.mail_tails t set last_seq = t.last_seq + _count - 1
   where t.root_id = _first.root_id and t.recipient_id = send_many.recipient_id
     and t.priority = send_many.priority returning t.last_seq into _last;
  if _last - 10000 > coalesce((select h.acknowledged_seq from bough.mail_heads h
      where h.root_id = _first.root_id and h.recipient_id = send_many.recipient_id
        and h.priority = send_many.priority), 0) then
    raise exception 'the mailbox of % is full: % more do not fit in lane %; try again later',
      left(send_many.recipient_id::text, 8), _count, priority using errcode = 'TR015';
  end if;
  insert into bough.messages (root_id, sender_id, recipient_id, type, payload, priority, seq)
  select _first.root_id, send_many.sender_id, send_many.recipient_id, send_many.type, p.payload,
    send_many.priority, _first.seq + p.place - 1
    from unnest(payloads) with ordinality p (payload, place) where p.place > 1;
  first_seq := _first.seq;
  last_seq := _last;
  return next;
end $$;
comment on function bough_api.send_many is 'Puts up to 1000 messages into one mailbox, in order.';

create function bough_api.broadcast(
  sender_id uuid, ancestor_id uuid, type text, payload jsonb, priority text)
returns table (recipient_id uuid, seq bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _sent record;
begin
  perform bough_api._check_mail(broadcast.payload, null, null);
  loop
    begin
      -- By id, so that two broadcasts lock mailboxes in one order.
      with told as (
        insert into bough.messages as m (sender_id, recipient_id, type, payload, priority)
        select broadcast.sender_id, l.id, broadcast.type, broadcast.payload, broadcast.priority
          from (select a.id from bough.agents r
            join bough.hierarchies h on h.root_id = r.root_id and h.parent_id = r.id
            join bough.agents a on a.id = h.child_id
           where r.id = broadcast.ancestor_id and a.completed_at is null
             and a.id is distinct from broadcast.sender_id order by a.id) l
        returning m.recipient_id, m.seq)
      select array_agg(t.recipient_id) as ids, array_agg(t.seq) as seqs into _sent from told t;
      exit;
    exception when sqlstate 'TR002' then
      null; -- One of them has ended meanwhile: nothing was sent, all the others get it now.
    end;
  end loop;
  return query select * from unnest(_sent.ids, _sent.seqs);
end $$;
comment on function bough_api.broadcast is 'A message to every living agent below one.';

create function bough_api.receive(agent_id uuid, epoch bigint, most integer)
returns table (id uuid, seq bigint, sender_id uuid, recipient_id uuid, type text, priority text,
  thread_id uuid, reply_to uuid, reply_by timestamptz, payload jsonb, created_at timestamptz)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(receive.agent_id, receive.epoch);
  _left integer := least(receive.most, 1000);
  _given integer;
  _lane text;
begin
  foreach _lane in array array['critical', 'high', 'normal', 'low'] loop
    exit when _left <= 0;
    continue when not bough_api._open_lane(_root_id, receive.agent_id, _lane, receive.epoch);
    -- All in one snapshot: what the tail has numbered by now is all there.
    return query
    with taken as (
      select m.* from bough.messages m join bough.mail_heads h on h.root_id = _root_id
         and h.recipient_id = receive.agent_id and h.priority = _lane
       where m.root_id = _root_id and m.recipient_id = receive.agent_id and m.priority = _lane
         and m.seq > h.received_seq and m.status = 'queued' and m.seq <> all (h.ahead)
         and (m.expires_at is null or m.expires_at > bough.now())
       order by m.seq limit _left
    ), moved as (
      update bough.mail_heads h set received_seq = greatest(h.received_seq, (
        select case when count(*) < _left then (select t.last_seq from bough.mail_tails t
            where t.root_id = _root_id and t.recipient_id = receive.agent_id
              and t.priority = _lane) else max(k.seq) end from taken k))
       where h.root_id = _root_id and h.recipient_id = receive.agent_id and h.priority = _lane)
    select k.id, k.seq, k.sender_id, k.recipient_id, k.type::text, k.priority::text, k.thread_id,
      k.reply_to, k.reply_by, k.payload, k.created_at from taken k order by k.seq;
    get diagnostics _given = row_count;
    _left := _left - _given;
  end loop;
end $$;
comment on function bough_api.receive is
  'The next messages, higher lanes first; what a dead lease was given comes again, in order.';

create function bough_api._open_lane(
  root_id uuid, recipient_id uuid, priority text, epoch bigint) returns boolean
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _most constant integer := 5;
  _head record;
  _dead record;
begin
  select h.lease_epoch, h.acknowledged_seq, h.received_seq, h.deliveries into _head
    from bough.mail_heads h where h.root_id = _open_lane.root_id
     and h.recipient_id = _open_lane.recipient_id and h.priority = _open_lane.priority
     for no key update;
  if not found then
    insert into bough.mail_heads as h (root_id, recipient_id, priority, lease_epoch)
    select t.root_id, t.recipient_id, t.priority, _open_lane.epoch from bough.mail_tails t
     where t.root_id = _open_lane.root_id and t.recipient_id = _open_lane.recipient_id
       and t.priority = _open_lane.priority
    on conflict on constraint mail_heads_pkey do update set lease_epoch = h.lease_epoch
    returning h.lease_epoch, h.acknowledged_seq, h.received_seq, h.deliveries into _head;
  end if;
  if not found or _head.lease_epoch = epoch then
    return found;
  end if;
  perform bough_api._hold(recipient_id, epoch);
  -- A new lease: what the last one was given and did not acknowledge comes again.
  update bough.mail_heads h set lease_epoch = _open_lane.epoch, received_seq = h.acknowledged_seq,
    deliveries = case when h.received_seq > h.acknowledged_seq then h.deliveries + 1 else 0 end
   where h.root_id = _open_lane.root_id and h.recipient_id = _open_lane.recipient_id
     and h.priority = _open_lane.priority returning h.deliveries into _head.deliveries;
  if _head.deliveries >= _most then
    update bough.messages m set status = 'dead' where m.id = (
      select o.id from bough.messages o join bough.mail_heads h on h.root_id = o.root_id
         and h.recipient_id = o.recipient_id and h.priority = o.priority
       where o.root_id = _open_lane.root_id and o.recipient_id = _open_lane.recipient_id
         and o.priority = _open_lane.priority and o.seq > h.acknowledged_seq
         and o.status = 'queued' and o.seq <> all (h.ahead) order by o.seq limit 1)
    returning m.id, m.seq, m.type into _dead;
    insert into bough.events (root_id, agent_id, name, data) values (_open_lane.root_id,
      _open_lane.recipient_id, 'message.dead', jsonb_build_object('message', _dead.id,
        'type', _dead.type, 'seq', _dead.seq, 'deliveries', _head.deliveries));
    update bough.mail_heads h set deliveries = 0 where h.root_id = _open_lane.root_id
       and h.recipient_id = _open_lane.recipient_id and h.priority = _open_lane.priority;
  end if;
  return true;
end $$;
comment on function bough_api._open_lane is
  'Locks the head of a lane for a lease; a letter that five leases got in vain is dead.';

create function bough_api.acknowledge(agent_id uuid, epoch bigint, message_ids uuid[])
returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(acknowledge.agent_id, acknowledge.epoch);
begin
  -- Under the lock of a head no other lease receives: what is in doubt is done by one of the two.
  perform bough_api._open_lane(_root_id, acknowledge.agent_id, l.priority, acknowledge.epoch)
    from (select distinct m.priority::text as priority from bough.messages m
      where m.id = any (message_ids) and m.recipient_id = acknowledge.agent_id) l
   order by array_position(array['critical', 'high', 'normal', 'low'], l.priority);
  perform bough_api._acknowledge(acknowledge.agent_id, acknowledge.message_ids);
end $$;
comment on function bough_api.acknowledge is
  'Done with these messages, in any order; they never come again. Repeating it is harmless.';

create function bough_api.acknowledge_as_operator(message_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform bough_api._acknowledge('00000000-0000-0000-0000-000000000000', message_ids);
end $$;
comment on function bough_api.acknowledge_as_operator is
  'A person is done with these messages to the operator.';

create function bough_api._acknowledge(recipient_id uuid, message_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _count integer := 0;
  _lane record;
begin
  for _lane in
    select m.root_id, m.priority, array_agg(m.seq) as seqs, max(m.seq) as newest
      from bough.messages m
     where m.id = any (message_ids) and m.recipient_id = _acknowledge.recipient_id
     group by m.root_id, m.priority
     order by 1, array_position(array['critical', 'high', 'normal', 'low'], m.priority::text)
  loop
    _count := _count + cardinality(_lane.seqs);
    insert into bough.mail_heads (root_id, recipient_id, priority)
    values (_lane.root_id, _acknowledge.recipient_id, _lane.priority) on conflict do nothing;
    -- Up to the first that is neither acknowledged nor taken out of the lane by the kernel.
    with head as (
      select h.acknowledged_seq, greatest(h.received_seq, _lane.newest) as last,
          h.ahead || _lane.seqs as done from bough.mail_heads h
       where h.root_id = _lane.root_id and h.recipient_id = _acknowledge.recipient_id
         and h.priority = _lane.priority for no key update
    ), upto as (
      select h.done, coalesce((select m.seq - 1 from bough.messages m
          where m.root_id = _lane.root_id and m.recipient_id = _acknowledge.recipient_id
            and m.priority = _lane.priority and m.seq > h.acknowledged_seq and m.seq <= h.last
            and m.seq <> all (h.done) and m.status = 'queued'
            and (m.expires_at is null or m.expires_at > bough.now())
          order by m.seq limit 1), greatest(h.last, h.acknowledged_seq)) as seq from head h)
    update bough.mail_heads h set acknowledged_seq = u.seq,
        received_seq = greatest(h.received_seq, u.seq), deliveries = 0,
        ahead = array(select distinct d from unnest(u.done) d where d > u.seq order by d)
      from upto u where h.root_id = _lane.root_id and h.priority = _lane.priority
        and h.recipient_id = _acknowledge.recipient_id;
  end loop;
  if _count < (select count(distinct i) from unnest(message_ids) i) then
    raise exception 'of % messages, % are in this mailbox; see bough inbox',
      (select count(distinct i) from unnest(message_ids) i), _count using errcode = 'TR016';
  end if;
end $$;
comment on function bough_api._acknowledge is 'Moves the offsets of a mailbox.';
