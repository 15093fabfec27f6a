-- Mail: send, many at once, broadcast. What receives and acknowledges is in receive.sql.
--
-- send numbers under the lock of the recipient's lane, so FIFO holds per lane in commit order.
-- Refusals: TR001, TR002 (recipient ended), TR005 (input), TR015 (full), TR016 (no such message).

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
    if send.reply_to is not null then
      update bough.messages m set answered_at = bough.now()
       where m.id = send.reply_to and m.answered_at is null and m.reply_by is not null;
    end if;
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
  if _last - bough.lane_size() > coalesce((select h.acknowledged_seq from bough.mail_heads h
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
