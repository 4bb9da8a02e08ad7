-- Each payout against the movements it is made of: `difference` is to be 0.
-- Stripe's records do not say which payout a movement is in: only the list with `payout=po_…` does.
-- But an automatic payout takes all that is available by then in its currency and was not in the one
-- before, so the records are enough. Manual payouts take what they were told to: leave those out.
with payouts as (
    select
        *,
        lag(created) over (partition by _account_id, currency order by created) as before
    from stripe.payouts
    where not deleted and automatic and status in ('paid', 'in_transit', 'pending')
)
select
    payouts.arrival_date::date as arrives,
    payouts.id as payout,
    payouts.currency,
    any_value(payouts.amount)::bigint as paid_out,
    count(*) filter (moved.reporting_category = 'charge') as charges,
    count(*) filter (moved.reporting_category <> 'charge') as others,
    sum(moved.amount)::bigint as gross,
    -sum(moved.fee)::bigint as fees,
    (any_value(payouts.amount) - coalesce(sum(moved.net), 0))::bigint as difference
from payouts
left join stripe.balance_transactions as moved
    on moved.currency = payouts.currency
    and moved._account_id is not distinct from payouts._account_id
    and moved.type not in ('payout', 'payout_cancel', 'payout_failure')
    and moved.available_on <= payouts.created
    and (payouts.before is null or moved.available_on > payouts.before)
group by payouts.id, payouts.arrival_date, payouts.currency
order by arrives desc, payout;
