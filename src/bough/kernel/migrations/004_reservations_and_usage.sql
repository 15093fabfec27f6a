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
  add constraint frozen_says_why check ((frozen_at is null) = (frozen_reason is null)),
  set (fillfactor = 70);
comment on column bough.budgets.kept is 'Available to the agent itself, not to its children.';
comment on column bough.budgets.overdraft is
  'Billed beyond what was there, here and by ended descendants; part of used.';
comment on column bough.budgets.warn_percent is 'Share of the allocation whose use is announced.';
comment on column bough.budgets.frozen_at is 'Since when this account pays for nothing new.';

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
  expires_at timestamptz not null, ended_at timestamptz,
  constraint open_exactly_until_ended check ((status = 'open') = (ended_at is null)),
  constraint charged_exactly_when_settled_or_expired check (
    (status in ('settled', 'expired')) = (tokens_used is not null)),
  constraint expired_is_charged_in_full check (
    status <> 'expired' or tokens_used = tokens_reserved),
  constraint parts_of_use_come_together check (
    num_nulls(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens) in (0, 4)),
  constraint parts_of_use_add_up check (
    input_tokens + output_tokens + cache_read_tokens + cache_write_tokens = tokens_used)
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
   where agent_id = _parent_id and (_more <= 0 or frozen_at is null and _more <=
     available - case when tg_op = 'INSERT' then kept else 0 end);
  if not found then
    select case when tg_op = 'INSERT' then kept else 0 end as kept, available, frozen_at,
        frozen_reason into _parent from bough.budgets where agent_id = _parent_id;
    if _parent.frozen_at is not null then
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

create or replace function bough.record_budget() returns trigger
language plpgsql set search_path = '' as $$
declare
  _names text[] := array['budget.allocated'];
begin
  if tg_op = 'UPDATE' then
    _names := array_remove(array[
      case when new.reclaimed_at is not null and old.reclaimed_at is null
        then 'budget.reclaimed' end,
      case when new.allocated <> old.allocated then 'budget.changed' end,
      case when new.overdraft > old.overdraft then 'budget.overdrawn' end,
      case when new.frozen_at is not null and old.frozen_at is null then 'budget.frozen' end,
      case when new.frozen_at is null and old.frozen_at is not null then 'budget.unfrozen' end,
      case when bough.is_warned(old.used, old.allocated, new.warn_percent)
        < bough.is_warned(new.used, new.allocated, new.warn_percent)
        then 'budget.warned' end], null);
  end if;
  insert into bough.events (root_id, agent_id, name, data)
  select new.root_id, new.agent_id, n, jsonb_strip_nulls(jsonb_build_object(
      'allocated', new.allocated, 'used', new.used,
      'available', new.allocated - new.used - new.reserved,
      'overdraft', nullif(new.overdraft, 0), 'reason', new.frozen_reason,
      'change', case when n = 'budget.changed' then new.allocated - old.allocated end,
      'moved', case when n = 'budget.reclaimed' then old.reserved - new.reserved end))
    from unnest(_names) n;
  perform bough.hint('bough_tree_' || new.root_id::text,
    'bough_budget_' || new.agent_id::text, (select 'bough_runner_' || runner_id::text
      from bough.agents where id = new.agent_id and new.frozen_at is not null));
  return null;
end $$;
comment on function bough.record_budget() is
  'Writes the events of an account: allocated, changed, warned, frozen, overdrawn, reclaimed.';

create function bough.is_warned(used bigint, allocated bigint, percent integer) returns boolean
language sql immutable as $$
  select used::float8 * 100 >= allocated::float8 * percent
$$;
comment on function bough.is_warned(bigint, bigint, integer) is
  'True when this share of an allocation, in percent, is used.';

drop trigger record_change on bough.budgets;
create trigger record_change after update on bough.budgets
  for each row when (old.allocated <> new.allocated or old.overdraft <> new.overdraft
    or (old.reclaimed_at is null) <> (new.reclaimed_at is null)
    or (old.frozen_at is null) <> (new.frozen_at is null)
    or bough.is_warned(old.used, old.allocated, new.warn_percent)
      < bough.is_warned(new.used, new.allocated, new.warn_percent))
  execute function bough.record_budget();
