-- What each call to a model may cost, and what it did cost.
--
-- Guarantees: before a call its worst case is reserved, one row per call; a row ends once, as
-- settled, released or expired, and its tokens move from reserved to used in the same statement.
-- When an agent ends, its open calls move to its parent, which pays them. What an upstream bills
-- beyond all that was there is recorded as overdraft and freezes the account. A frozen account
-- pays for nothing new. A small part of a large account is kept from children, for a last report.
--
-- Lock order: agents top-down, then budgets bottom-up, then reservations.

create domain bough.usd as numeric constraint cost_is_not_negative check (value >= 0);
create domain bough.reservation_status as text constraint reservation_status_is_known
  check (value in ('open', 'settled', 'released', 'expired'));
create domain bough.percent as integer constraint percent_is_1_to_100
  check (value between 1 and 100);

alter table bough.budgets
  add column kept bough.tokens not null default 0,
  add column overdraft bough.tokens not null default 0,
  add column warn_percent bough.percent not null default 80,
  add column frozen_at timestamptz, add column frozen_reason text,
  drop constraint used_and_reserved_within_allocated,
  drop constraint reclaimed_budget_reserves_nothing,
  add constraint used_and_reserved_within_allocated
    check (used - overdraft <= allocated - reserved),
  add constraint reclaimed_budget_reserves_nothing
    check (reclaimed_at is null or reserved = 0 or agent_id = root_id),
  set (fillfactor = 70);
comment on column bough.budgets.kept is 'Available to the agent itself, not to its children.';
comment on column bough.budgets.overdraft is
  'Billed beyond what was there, here and by ended descendants; part of used.';
comment on column bough.budgets.warn_percent is 'Share of the allocation whose use is announced.';
comment on column bough.budgets.frozen_reason is 'Not null: pays for nothing new, and why.';
comment on column bough.budgets.frozen_at is 'Since when; set by trigger.';

create table bough.reservations (
  id uuid not null constraint reservations_pkey primary key,
  root_id uuid not null, agent_id uuid not null,
  payer_id uuid not null constraint payer_exists references bough.budgets,
  tokens_reserved bough.tokens not null,
  status bough.reservation_status not null default 'open',
  operation bough.label not null, model bough.label,
  tokens_used bough.tokens, input_tokens bough.tokens, output_tokens bough.tokens,
  cache_read_tokens bough.tokens, cache_write_tokens bough.tokens,
  cost_usd bough.usd, prices jsonb,
  created_at timestamptz not null default bough.now(),
  expires_at timestamptz not null, ended_at timestamptz
) with (fillfactor = 70);
comment on table bough.reservations is
  'One row per call: the tokens set aside for it, then what it used and cost; kept for ever.';
comment on column bough.reservations.id is 'Made by the caller: a repeat finds the first.';
comment on column bough.reservations.agent_id is 'Who made the call.';
comment on column bough.reservations.payer_id is
  'Whose account it is on: the caller, or the nearest ancestor that lived when the caller ended.';
comment on column bough.reservations.tokens_reserved is '0 when the use was only told afterwards.';
comment on column bough.reservations.cost_usd is 'Null: the price of the model is not known.';
comment on column bough.reservations.prices is 'Prices per million tokens that gave cost_usd.';
comment on column bough.reservations.expires_at is 'Unsettled past this time: charged in full.';
create index reservations_of_tree on bough.reservations (root_id, payer_id);
create index reservations_open on bough.reservations (payer_id, expires_at)
  where status = 'open';

create or replace function bough.allocate() returns trigger
language plpgsql set search_path = '' as $$
declare
  _parent_id uuid;
  _parent record;
  _more bigint := new.allocated - case when tg_op = 'UPDATE' then old.allocated else 0 end;
begin
  select parent_id, root_id into _parent_id, new.root_id
    from bough.agents where id = new.agent_id;
  if new.reclaimed_at is not null then
    raise exception 'agent % has ended; its budget is closed', left(new.agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  if tg_op = 'INSERT' and new.allocated >= 20000 then
    new.kept := least(new.allocated / 100, 1000);
  end if;
  if _parent_id is null then
    return new;
  end if;
  update bough.budgets set reserved = reserved + _more
   where agent_id = _parent_id and (_more <= 0 or frozen_reason is null and _more <=
     available - case when tg_op = 'INSERT' then kept else 0 end);
  if not found then
    select case when tg_op = 'INSERT' then kept else 0 end as kept, available,
        frozen_reason into _parent from bough.budgets where agent_id = _parent_id;
    if _parent.frozen_reason is not null then
      raise exception 'the budget of % is frozen (%); see: bough budget unfreeze',
        left(_parent_id::text, 8), _parent.frozen_reason using errcode = 'TR012';
    end if;
    raise exception 'budget: % tokens required, % available from %; ask for less or top it up',
      _more, _parent.available, left(_parent_id::text, 8) || case when _parent.kept > 0
        then format(' (%s of them kept for its last report)', _parent.kept) else '' end
      using errcode = 'TR004';
  end if;
  return new;
end $$;

create or replace function bough.reclaim() returns trigger
language plpgsql set search_path = '' as $$
declare
  _ended record;
  _moved bigint;
begin
  -- The lock on its account keeps calls of this agent from opening or ending meanwhile.
  update bough.budgets set reclaimed_at = bough.now(),
    reserved = case when new.parent_id is null then reserved else 0 end
   where agent_id = new.id and reclaimed_at is null
   returning allocated, used, overdraft into _ended;
  if not found or new.parent_id is null then
    return null;
  end if;
  with moved as (
    update bough.reservations set payer_id = new.parent_id
     where payer_id = new.id and status = 'open' returning tokens_reserved)
  select coalesce(sum(tokens_reserved), 0) into _moved from moved;
  update bough.budgets set reserved = reserved - _ended.allocated + _moved,
    used = used + _ended.used, overdraft = overdraft + _ended.overdraft
   where agent_id = new.parent_id;
  perform bough.hint('bough_budget_' || new.parent_id::text);
  return null;
end $$;
comment on function bough.reclaim() is
  'Hands an ended agent''s rest back, its use and its open calls up.';

create function bough.end_reservation() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'UPDATE' and old.ended_at is not null then
    raise exception 'the reservation of % tokens was % before', old.tokens_reserved, old.status
      using errcode = 'TR013';
  elsif new.status = 'open' then
    new.ended_at := null;
    new.tokens_used := null;
    return new;
  end if;
  new.ended_at := bough.now();
  if new.status = 'released' then
    new.tokens_used := null;
  elsif new.status = 'expired' then
    new.tokens_used := new.tokens_reserved;
  elsif new.tokens_used is null then
    raise exception 'a call that is settled says how many tokens it used' using errcode = 'TR005';
  elsif num_nulls(new.input_tokens, new.output_tokens, new.cache_read_tokens,
      new.cache_write_tokens) not in (0, 4) then
    raise exception 'the four parts of a use are known together or not at all'
      using errcode = 'TR005';
  elsif new.input_tokens + new.output_tokens + new.cache_read_tokens + new.cache_write_tokens
      <> new.tokens_used then
    raise exception 'the parts of a use add up to % tokens, not to %', new.input_tokens
      + new.output_tokens + new.cache_read_tokens + new.cache_write_tokens, new.tokens_used
      using errcode = 'TR005';
  end if;
  return new;
end $$;
comment on function bough.end_reservation() is
  'Lets a call end once; dates it, and charges what its end means.';
create trigger ending before insert or update on bough.reservations
  for each row execute function bough.end_reservation();

create function bough.change_budget() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := bough.now();
  if (new.frozen_reason is null) <> (old.frozen_at is null) then
    new.frozen_at := case when new.frozen_reason is not null then bough.now() end;
  end if;
  if new.used > old.used and new.used::float8 * 100 >= new.allocated::float8 * new.warn_percent
      and old.used::float8 * 100 < old.allocated::float8 * new.warn_percent then
    perform bough.tell_budget('budget.warned', new);
  end if;
  return new;
end $$;
comment on function bough.change_budget() is
  'Dates changes and freezes; writes an event when most of an allocation is used.';

create function bough.tell_budget(name text, account bough.budgets, more jsonb default '{}')
returns void language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (account.root_id, account.agent_id, tell_budget.name, more || jsonb_strip_nulls(
    jsonb_build_object('allocated', account.allocated, 'used', account.used,
      'available', account.allocated - account.used - account.reserved,
      'overdraft', nullif(account.overdraft, 0), 'reason', account.frozen_reason)));
  perform bough.hint('bough_tree_' || account.root_id::text,
    'bough_budget_' || account.agent_id::text);
end $$;
comment on function bough.tell_budget(text, bough.budgets, jsonb) is
  'Writes an event of an account with its numbers and wakes who watches it.';

create or replace function bough.record_budget() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    perform bough.tell_budget('budget.allocated', new);
    return null;
  end if;
  if new.reclaimed_at is not null and old.reclaimed_at is null then
    perform bough.tell_budget('budget.reclaimed', new,
      jsonb_build_object('moved', old.reserved - new.reserved));
  end if;
  if new.allocated <> old.allocated then
    perform bough.tell_budget('budget.changed', new,
      jsonb_build_object('change', new.allocated - old.allocated));
  end if;
  if new.overdraft > old.overdraft then
    perform bough.tell_budget('budget.overdrawn', new);
  end if;
  if (new.frozen_at is null) <> (old.frozen_at is null) then
    perform bough.tell_budget(case when new.frozen_at is null then 'budget.unfrozen'
      else 'budget.frozen' end, new);
    -- The runner stops what is overdrawn.
    perform bough.hint((select 'bough_runner_' || runner_id::text from bough.agents
      where id = new.agent_id));
  end if;
  return null;
end $$;
comment on function bough.record_budget() is
  'Writes the events of an account: allocated, changed, frozen, overdrawn, reclaimed.';

-- By columns, not by a condition: PostgreSQL reads a condition anew at every statement.
drop trigger record_change on bough.budgets;
create trigger record_change
  after update of allocated, overdraft, reclaimed_at, frozen_reason on bough.budgets
  for each row execute function bough.record_budget();
drop trigger touch on bough.budgets;
create trigger change before update on bough.budgets
  for each row execute function bough.change_budget();
