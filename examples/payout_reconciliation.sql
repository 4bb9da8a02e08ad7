-- Each automatic payout against the movements it is made of: `difference` is to be 0.
-- A payout's own movement names it (`source`), the others do not: only Stripe's list with
-- `payout=po_…` tells which are in it. But an automatic payout takes all that is available by then in
-- its currency and was not in the one before, so the records are enough to check that it adds up.
-- Stripe does not say at which moment it cuts: this takes the payout's creation. If yours differ by
-- some movements at the edge of the day, cut at `arrival_date`.
-- A manual payout takes what it was told to, and Stripe itself does not know of which movements: it
-- is left out here, and the automatic payout after it differs by its amount.
with payouts as (
    select
        *,
        lag(created) over (partition by _account_id, currency order by created) as before
    from stripe.payouts
    -- What failed or was canceled came back, and is in the next one.
    where not deleted and automatic and status in ('paid', 'in_transit', 'pending')
)
select
    payouts.arrival_date::date as arrives,
    payouts.id as payout,
    payouts.currency,
    any_value(payouts.amount)::bigint as paid_out,
    -any_value(own.net)::bigint as left_balance,
    count(*) filter (moved.reporting_category = 'charge') as charges,
    count(*) filter (moved.reporting_category <> 'charge') as others,
    coalesce(sum(moved.amount), 0)::bigint as gross,
    -coalesce(sum(moved.fee), 0)::bigint as fees,
    (-any_value(own.net) - coalesce(sum(moved.net), 0))::bigint as difference
from payouts
left join stripe.balance_transactions as own on own.id = payouts.balance_transaction
left join stripe.balance_transactions as moved
    on moved.currency = payouts.currency
    and moved._account_id is not distinct from payouts._account_id
    and not moved.deleted
    and moved.reporting_category not in ('payout', 'payout_reversal')
    and moved.available_on <= payouts.created
    and (payouts.before is null or moved.available_on > payouts.before)
group by payouts.id, payouts.arrival_date, payouts.currency
order by arrives desc, payout;
