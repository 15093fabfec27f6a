-- What a call to a model may cost, and what it did: reserve before, settle or release after.
--
-- reserve takes the worst case from the caller's available tokens or refuses, so that calls in
-- flight at once can never spend more than there is. The caller makes the key: a repeat gives the
-- first answer. Who can do with less says at_least, and gets what is there. A call that nobody
-- settles expires and is charged in full. A reservation ends once, under the lock of the account
-- that pays: whoever comes second finds it ended. One call is sought by ended_at and not by status:
-- else a server without statistics takes the index of open calls, and reads them all.
-- Refusals: TR002, TR004 (budget), TR005, TR011 (others hold it), TR012 (frozen), TR013, TR014.

create function bough_api.reserve(
  key uuid, agent_id uuid, tokens bigint, operation text, model text, expires_s integer,
  at_least bigint default null
) returns table (id uuid, tokens_reserved bigint, available bigint, expires_at timestamptz,
  is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _least constant bigint := coalesce(reserve.at_least, reserve.tokens);
  _wanted bigint := reserve.tokens;
  _made record;
begin
  if (reserve.tokens > 0 and _least between 1 and reserve.tokens
      and reserve.expires_s between 1 and 86400) is not true then
    raise exception 'a reservation is of 1 token or more, for 1 to 86400 s; not % for % s',
      least(_least, reserve.tokens), reserve.expires_s using errcode = 'TR005';
  end if;
  for _try in 1 .. 2 loop
    with paid as (
      update bough.budgets b set reserved = b.reserved + _wanted
       where b.agent_id = reserve.agent_id and b.available >= _wanted
         and b.reclaimed_at is null and b.frozen_reason is null
         and not exists (select from bough.reservations r where r.id = reserve.key)
       returning b.root_id, b.available
    ), made as (
      insert into bough.reservations as r (id, root_id, agent_id, payer_id, tokens_reserved,
        operation, model, expires_at)
      select reserve.key, p.root_id, reserve.agent_id, reserve.agent_id, _wanted,
        reserve.operation, reserve.model, bough.now() + make_interval(secs => reserve.expires_s)
        from paid p
      on conflict (id) do nothing returning r.expires_at)
    select p.available, m.expires_at into _made from paid p left join made m on true;
    if _made.expires_at is not null then
      return query select reserve.key, _wanted, _made.available, _made.expires_at, true;
      return;
    elsif _made.available is not null then
      -- The same key came twice at once, and the other was first.
      update bough.budgets b set reserved = b.reserved - _wanted
       where b.agent_id = reserve.agent_id;
    end if;
    exit when _made.available is not null or _least = reserve.tokens or _try = 2;
    -- Less will do. Under this lock nobody takes what is read here.
    select least(b.available, reserve.tokens) into _wanted from bough.budgets b
     where b.agent_id = reserve.agent_id and b.available >= _least
       and b.reclaimed_at is null and b.frozen_reason is null
       for no key update;
    exit when not found;
  end loop;
  return query select r.id, r.tokens_reserved::bigint, b.available, r.expires_at, false
    from bough.reservations r join bough.budgets b on b.agent_id = r.payer_id
   where r.id = reserve.key and r.agent_id = reserve.agent_id;
  if not found then
    perform bough_api._refuse_call(reserve.key, reserve.agent_id, _least);
  end if;
end $$;
comment on function bough_api.reserve is
  'Sets tokens aside for one call, or what is there from at_least on; unsettled: all charged.';

create function bough_api._refuse_call(key uuid, agent_id uuid, tokens bigint) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _short constant text := left(_refuse_call.agent_id::text, 8);
  _budget record;
begin
  select b.available, b.allocated - b.used as unspent, b.reclaimed_at, b.frozen_reason
      into _budget
    from bough.budgets b where b.agent_id = _refuse_call.agent_id;
  if not found then
    raise exception 'no agent %; see bough ps --all', _short using errcode = 'TR001';
  elsif exists (select from bough.reservations r where r.id = key) then
    raise exception 'the key % was used before, for another call; make a new one', key
      using errcode = 'TR005';
  elsif _budget.reclaimed_at is not null then
    raise exception 'agent % has ended and spends no more', _short using errcode = 'TR002';
  elsif _budget.frozen_reason is not null then
    raise exception 'the budget of % is frozen (%); see: bough budget unfreeze', _short,
      _budget.frozen_reason using errcode = 'TR012';
  elsif tokens <= _budget.unspent then
    raise exception 'budget: % tokens required, % available now, % once others give back; wait',
      tokens, _budget.available, _budget.unspent using errcode = 'TR011';
  end if;
  raise exception 'budget: % tokens required, % available from %; ask for less or top it up',
    tokens, _budget.available, _short using errcode = 'TR004';
end $$;
comment on function bough_api._refuse_call is 'Says why an account cannot pay for a call.';

create function bough_api.settle(
  key uuid, agent_id uuid, tokens bigint, input_tokens bigint, output_tokens bigint,
  cache_read_tokens bigint, cache_write_tokens bigint, model text, cost_usd numeric, prices jsonb
) returns table (id uuid, payer_id uuid, tokens_reserved bigint, tokens_used bigint,
  available bigint, overdraft bigint, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _payer_id uuid;
  _reserved bigint;
begin
  perform bough_api._check_use(settle.tokens);
  loop
    -- The payer's account is locked first. Under that lock nobody else ends or moves its calls:
    -- what is still open there ends, and the account pays; else it is looked for anew.
    select b.agent_id into _payer_id from bough.reservations r
      join bough.budgets b on b.agent_id = r.payer_id
     where r.id = settle.key and r.agent_id = settle.agent_id and r.ended_at is null
       for no key update of b;
    exit when not found;
    update bough.reservations r set status = 'settled', tokens_used = settle.tokens,
      input_tokens = settle.input_tokens, output_tokens = settle.output_tokens,
      cache_read_tokens = settle.cache_read_tokens,
      cache_write_tokens = settle.cache_write_tokens, model = coalesce(settle.model, r.model),
      cost_usd = settle.cost_usd, prices = settle.prices
     where r.id = settle.key and r.ended_at is null and r.payer_id = _payer_id
     returning r.tokens_reserved into _reserved;
    if found then
      select * into available, overdraft
        from bough_api._pay(_payer_id, _reserved, settle.tokens);
      id := settle.key;
      payer_id := _payer_id;
      tokens_reserved := _reserved;
      tokens_used := settle.tokens;
      is_new := true;
      return next;
      return;
    end if;
  end loop;
  return query select r.id, r.payer_id, r.tokens_reserved::bigint, r.tokens_used::bigint,
      b.available, b.overdraft::bigint, false
    from bough.reservations r join bough.budgets b on b.agent_id = r.payer_id
   where r.id = settle.key and r.agent_id = settle.agent_id and r.status = 'settled'
     and r.tokens_used = settle.tokens;
  if not found then
    perform bough_api._refuse_end(settle.key, settle.agent_id);
  end if;
end $$;
comment on function bough_api.settle is
  'Ends a call with what it used; what it did not use is free again. Parts may be null: unknown.';

create function bough_api._check_use(tokens bigint) returns void
language plpgsql immutable security definer set search_path = '' as $$
begin
  if (tokens between 0 and 1000000000000) is not true then
    raise exception 'a call uses 0 to 1,000,000,000,000 tokens, not %', tokens
      using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api._check_use is 'Refuses numbers of tokens that no call can use.';

create function bough_api._pay(payer_id uuid, reserved bigint, tokens bigint)
returns table (available bigint, overdraft bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  -- The caller holds the account's lock.
  update bough.budgets b set reserved = b.reserved - _pay.reserved, used = b.used + _pay.tokens
   where b.agent_id = _pay.payer_id
     and (_pay.tokens <= _pay.reserved or _pay.tokens - _pay.reserved <= b.available)
   returning b.available, b.overdraft into available, overdraft;
  if not found then
    update bough.budgets b set reserved = b.reserved - _pay.reserved, used = b.used + _pay.tokens,
      overdraft = b.overdraft + _pay.tokens - _pay.reserved - greatest(b.available, 0),
      frozen_reason = 'overdraft'
     where b.agent_id = _pay.payer_id
     returning b.available, b.overdraft into available, overdraft;
  end if;
  if _pay.tokens < _pay.reserved then
    perform bough.hint('bough_budget_' || _pay.payer_id::text);
  end if;
  return next;
end $$;
comment on function bough_api._pay is
  'Moves tokens from reserved to used; what was not there is overdraft and freezes the account.';

create function bough_api._refuse_end(key uuid, agent_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _call record;
begin
  select r.status, r.tokens_used, r.tokens_reserved into _call
    from bough.reservations r where r.id = key and r.agent_id = _refuse_end.agent_id;
  if not found then
    raise exception 'agent % has no reservation %', left(_refuse_end.agent_id::text, 8), key
      using errcode = 'TR014';
  end if;
  raise exception 'the reservation of % tokens was % before%', _call.tokens_reserved, _call.status,
    coalesce(format(', with %s tokens charged', _call.tokens_used), '') using errcode = 'TR013';
end $$;
comment on function bough_api._refuse_end is 'Says why a reservation cannot end this way.';

create function bough_api.release(key uuid, agent_id uuid)
returns table (id uuid, tokens_reserved bigint, available bigint, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _payer_id uuid;
  _reserved bigint;
begin
  loop
    select b.agent_id into _payer_id from bough.reservations r
      join bough.budgets b on b.agent_id = r.payer_id
     where r.id = release.key and r.agent_id = release.agent_id and r.ended_at is null
       for no key update of b;
    exit when not found;
    update bough.reservations r set status = 'released'
     where r.id = release.key and r.ended_at is null and r.payer_id = _payer_id
     returning r.tokens_reserved into _reserved;
    if found then
      return query select release.key, _reserved, p.available, true
        from bough_api._pay(_payer_id, _reserved, 0) p;
      return;
    end if;
  end loop;
  return query select r.id, r.tokens_reserved::bigint, b.available, false
    from bough.reservations r join bough.budgets b on b.agent_id = r.payer_id
   where r.id = release.key and r.agent_id = release.agent_id and r.status = 'released';
  if not found then
    perform bough_api._refuse_end(release.key, release.agent_id);
  end if;
end $$;
comment on function bough_api.release is 'Ends a call that was never made: nothing is charged.';

create function bough_api.expire() returns table (payer_id uuid, calls bigint, tokens bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _payer_id uuid;
  _late record;
begin
  -- One account a call, and none that is in use: nobody waits for this, nor this for anybody.
  select b.agent_id into _payer_id from bough.budgets b where b.agent_id in (
      select r.payer_id from bough.reservations r
       where r.status = 'open' and r.expires_at <= bough.now())
   limit 1 for no key update skip locked;
  if not found then
    return;
  end if;
  with late as (
    update bough.reservations r set status = 'expired'
     where r.payer_id = _payer_id and r.status = 'open' and r.expires_at <= bough.now()
    returning r.id, r.root_id, r.agent_id, r.tokens_reserved::bigint as tokens
  ), told as (
    insert into bough.events (root_id, agent_id, name, data)
    select l.root_id, l.agent_id, 'reservation.expired', jsonb_build_object(
      'reservation', l.id, 'charged', l.tokens) from late l)
  select count(*) as calls, coalesce(sum(l.tokens), 0)::bigint as tokens into _late from late l;
  perform bough_api._pay(_payer_id, _late.tokens, _late.tokens);
  return query select _payer_id, _late.calls, _late.tokens;
end $$;
comment on function bough_api.expire is
  'Charges in full what was not settled in time, of one account; no row when none is left.';
