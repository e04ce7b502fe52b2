"""Invoices, Lightning addresses and LNURL-pay."""
