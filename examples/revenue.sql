-- Revenue by month and currency, from the movements of the balance: what Stripe's own reports add up.
-- A movement is in the currency of the balance it is on. Charges in another currency were converted
-- (`exchange_rate`), so the sums of a month never mix two. All amounts are in minor units, months are
-- in UTC. It is money as it moved: nothing is spread over the months that an invoice is for.
with moved as (
    select
        strftime(created, '%Y-%m') as month,
        currency,
        amount,
        fee,
        net,
        -- `type` tells cards from other methods and calls a dispute "adjustment"; this does not.
        case
            when reporting_category in ('charge', 'partial_capture_reversal') then 'gross'
            when reporting_category in ('refund', 'refund_failure', 'charge_failure') then 'refunds'
            when reporting_category in ('dispute', 'dispute_reversal') then 'disputes'
            when reporting_category in ('fee', 'network_cost') then 'fees'
            else 'other'
        end as part
    from stripe.balance_transactions
    -- to and from one's own bank account
    where not deleted
        and reporting_category not in ('payout', 'payout_reversal', 'topup', 'topup_reversal')
)
select
    month,
    currency,
    coalesce(sum(amount) filter (part = 'gross'), 0)::bigint as gross,
    coalesce(sum(amount) filter (part = 'refunds'), 0)::bigint as refunds,
    coalesce(sum(amount) filter (part = 'disputes'), 0)::bigint as disputes,
    -- Most fees are taken out of a movement; some, such as those for Radar, are movements themselves.
    (coalesce(sum(amount) filter (part = 'fees'), 0) - sum(fee))::bigint as fees,
    coalesce(sum(amount) filter (part = 'other'), 0)::bigint as other,
    sum(net)::bigint as net
from moved
group by month, currency
order by month desc, currency;
