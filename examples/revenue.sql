-- Revenue by month and currency, from the movements of the balance: what Stripe's own reports add up.
-- A movement is in the currency of the balance it is on. Charges in another currency were converted
-- (`exchange_rate`), so the sums of a month never mix two. All amounts are in minor units.
select
    strftime(created, '%Y-%m') as month,
    currency,
    sum(amount) filter (type in ('charge', 'payment'))::bigint as gross,
    coalesce(sum(amount) filter (type in ('refund', 'payment_refund', 'refund_failure')), 0)::bigint
        as refunds,
    coalesce(sum(amount) filter (starts_with(reporting_category, 'dispute')), 0)::bigint as disputes,
    -- Fees are taken out of a movement; some, such as those for Radar, are movements of their own.
    -(sum(fee) - coalesce(sum(net) filter (type = 'stripe_fee'), 0))::bigint as fees,
    sum(net)::bigint as net
from stripe.balance_transactions
where not deleted and type not in ('payout', 'payout_cancel', 'payout_failure', 'transfer')
group by all
order by month desc, currency;
